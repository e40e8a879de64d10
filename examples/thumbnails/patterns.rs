//! Made pictures that are mathematics: fractals, waves, tilings.
//!
//! Each is a function from a point (`y` from 0 at the top to 1, `x` to the same scale) to
//! its colour. None of this has to do with the executors.

use std::f32::consts::{PI, TAU};

use crate::paint::{Colour, cell, clouds, gradient, length, lit, mix, ramp, random, rgb, shade};

/// How many steps `z² + c` takes to run away from `z`, made smooth; `None`: it stays.
fn escape(mut zx: f64, mut zy: f64, cx: f64, cy: f64, limit: u32) -> Option<f32> {
    for step in 0..limit {
        let (xx, yy) = (zx * zx, zy * zy);
        if xx + yy > 256.0 {
            let overshoot = ((xx + yy).ln() / 256.0_f64.ln()).log2();
            return Some((f64::from(step) - overshoot) as f32);
        }
        (zx, zy) = (xx - yy + cx, 2.0 * zx * zy + cy);
    }
    None
}

/// The Mandelbrot set, in the valley of the sea horses.
pub(crate) fn mandelbrot(x: f32, y: f32) -> Colour {
    const FIRE: [Colour; 7] = [
        rgb(0x04071a),
        rgb(0x0b3a7a),
        rgb(0x3fa7d6),
        rgb(0xf6f1d1),
        rgb(0xffb11a),
        rgb(0x9a2d0c),
        rgb(0x04071a),
    ];
    let (cx, cy) = (-0.7453 + (f64::from(x) - 0.75) * 0.0046, 0.1127 + (f64::from(y) - 0.5) * 0.0046);
    match escape(0.0, 0.0, cx, cy, 300) {
        Some(steps) => gradient(&FIRE, (steps.sqrt() * 0.17).fract()),
        None => rgb(0x02030a),
    }
}

/// A Julia set: a square of violet lace.
pub(crate) fn julia(x: f32, y: f32) -> Colour {
    const LACE: [Colour; 6] =
        [rgb(0x0c0820), rgb(0x3a1c71), rgb(0xd76d77), rgb(0xffd59a), rgb(0x4aa3a2), rgb(0x0c0820)];
    let (zx, zy) = ((f64::from(x) - 0.5) * 2.5, (f64::from(y) - 0.5) * 2.5);
    match escape(zx, zy, -0.790, 0.152, 300) {
        Some(steps) => gradient(&LACE, ((steps + 2.0).max(0.0).sqrt() * 0.125).fract()),
        None => rgb(0x0c0820),
    }
}

/// Rings from three stones in a pond.
pub(crate) fn rings(x: f32, y: f32) -> Colour {
    let wave = |at_x: f32, at_y: f32, wavelength: f32| {
        let far = length(x - at_x, y - at_y);
        (far * TAU / wavelength).cos() / (1.0 + 2.2 * far)
    };
    let height = wave(0.30, 0.34, 0.040) + wave(1.02, 0.26, 0.046) + wave(0.72, 0.86, 0.052);
    let deep = gradient(&[rgb(0x041c2c), rgb(0x0a4f66), rgb(0x2fa4a8), rgb(0xd8f3e4)], 0.5 + 0.36 * height);
    let bed = 0.88 + 0.22 * clouds(x * 6.0, y * 6.0, 5);
    lit(shade(deep, bed), rgb(0xfff2c8), 0.5 * ramp(0.9, 1.5, height))
}

/// Quarter circles on square tiles, each tile turned by chance: they join to endless bands.
pub(crate) fn tiles(x: f32, y: f32) -> Colour {
    let (x, y) = (x * 11.0, y * 11.0);
    let (i, j) = (cell(x), cell(y));
    let (u, v) = (x - i as f32, y - j as f32);
    let u = if random(i, j) < 0.5 { u } else { 1.0 - u };
    let from_corner = length(u, v).min(length(1.0 - u, 1.0 - v));
    let away = (from_corner - 0.5).abs();
    let ground = mix(rgb(0xf3ead7), rgb(0xe6d5b8), random(i + 7, j - 3));
    let groove = ramp(0.012, 0.004, u.min(v).min(1.0 - u).min(1.0 - v));
    let mut colour = shade(ground, 1.0 - 0.18 * groove);
    let band = gradient(
        &[rgb(0x14506b), rgb(0x1f7a8c), rgb(0xd1495b), rgb(0xedae49)],
        clouds(x * 0.28, y * 0.28, 2) * 1.5 - 0.25,
    );
    colour = shade(colour, 1.0 - 0.35 * ramp(0.24, 0.15, away));
    colour = mix(colour, rgb(0x10222c), ramp(0.175, 0.168, away));
    colour = mix(colour, band, ramp(0.150, 0.143, away));
    mix(colour, rgb(0xfdf6e3), ramp(0.035, 0.028, away))
}

/// A window of coloured glass in lead. Upright.
pub(crate) fn glass(x: f32, y: f32) -> Colour {
    let (x, y) = (x * 9.0, y * 9.0);
    let (i, j) = (cell(x), cell(y));
    // Points are scattered one to a cell; a pane is all that is nearest to the same point.
    let mut points = [(0.0, 0.0, (0, 0)); 25];
    for (near, point) in (0..).zip(&mut points) {
        let (i, j) = (i + near % 5 - 2, j + near / 5 - 2);
        let (dx, dy) = (0.1 + 0.8 * random(i, j), 0.1 + 0.8 * random(j + 17, i));
        *point = (i as f32 + dx - x, j as f32 + dy - y, (i, j));
    }
    let closer = |a: &(f32, f32, _), b: &(f32, f32, _)| length(a.0, a.1) < length(b.0, b.1);
    let (px, py, pane) = points.iter().fold(points[12], |a, &b| if closer(&b, &a) { b } else { a });
    // From here to the line half way to the point of another pane: lead runs along the nearest.
    let edge = points.iter().filter(|other| other.2 != pane).fold(f32::MAX, |edge, &(qx, qy, _)| {
        let (dx, dy) = (qx - px, qy - py);
        edge.min(((px + qx) * dx + (py + qy) * dy) / (2.0 * length(dx, dy)))
    });
    const PANES: [Colour; 7] = [
        rgb(0x123c8c),
        rgb(0x2374c6),
        rgb(0x1c9a8a),
        rgb(0x7fbf3f),
        rgb(0xf2c230),
        rgb(0xe0642c),
        rgb(0xa3182f),
    ];
    let (middle_x, middle_y) = (pane.0 as f32 + 0.5, pane.1 as f32 + 0.5);
    let from_rose = length(middle_x - 3.2, middle_y - 3.6) / 7.0;
    let hue = gradient(&PANES, 1.05 - from_rose + 0.35 * (random(pane.0 + 3, pane.1) - 0.5));
    let streaks = 0.75 + 0.5 * clouds(x * 1.1 + 9.0 * random(pane.0, pane.1), y * 3.0, 5);
    let sun = 1.25 - 0.075 * length(x - 3.2, y - 3.6);
    let lead = mix(rgb(0x0b0b0e), rgb(0x3a3a40), ramp(0.03, 0.0, edge));
    mix(lead, shade(hue, streaks * sun), ramp(0.042, 0.055, edge))
}

/// Marble, in grey: every channel is the same.
pub(crate) fn marble(x: f32, y: f32) -> Colour {
    let warp_x = clouds(x * 1.4, y * 1.4, 5) - 0.5;
    let warp_y = clouds(x * 1.4 + 9.0, y * 1.4 + 4.0, 5) - 0.5;
    let cloudy = clouds(x * 2.2 + 3.0 * warp_x, y * 2.2 + 3.0 * warp_y, 6);
    // A vein runs where a noise crosses its middle; where another is low it fades out.
    let vein = |scale: f32, bend: f32, thin: f32, at: f32| {
        let along = clouds(x * scale + bend * warp_x + at, (y + 0.6 * x) * scale + bend * warp_y, 5);
        (-(along - 0.5).abs() * thin).exp()
    };
    let fade = ramp(0.35, 0.65, clouds(x * 1.7 + 5.0, y * 1.7 + 8.0, 3));
    let dark = 0.55 * vein(0.9, 1.6, 42.0, 2.0) * fade
        + 0.34 * vein(1.7, 2.4, 30.0, 7.0) * (1.0 - 0.7 * fade)
        + 0.16 * vein(3.6, 3.0, 18.0, 4.0);
    [0.98 - 0.34 * ramp(0.40, 0.75, cloudy) * 0.6 - dark; 3]
}

/// A rosette of woven petals, and how opaque it is there: around it is nothing.
pub(crate) fn rosette(x: f32, y: f32) -> (Colour, f32) {
    let (dx, dy) = (x - 0.5, y - 0.5);
    let (far, turn) = (length(dx, dy), dy.atan2(dx));
    let mut colour = rgb(0xfaf3e0);
    let mut cover = 0.0_f32;
    for ring in 0..5 {
        let at = ring as f32;
        let petals = [24.0, 20.0, 16.0, 12.0, 8.0][ring as usize];
        let reach = 0.47 - 0.085 * at;
        let hem = reach * (1.0 - 0.10 * (0.5 - 0.5 * (turn * petals + at * PI).cos()).powi(2));
        let inside = ramp(hem, hem - 0.002, far);
        let hue = [rgb(0x16324f), rgb(0x2a6f97), rgb(0x61a5a6), rgb(0xf4b860), rgb(0xc8553d)][ring as usize];
        let fold = 0.82 + 0.22 * (turn * petals + at * PI).cos() + 0.5 * (far - reach + 0.05);
        let line = ramp(0.006, 0.002, (hem - far - 0.012).abs());
        colour = mix(colour, mix(shade(hue, fold), rgb(0xfff3d6), 0.8 * line), inside);
        cover = cover.max(inside);
    }
    let eye = ramp(0.052, 0.049, far);
    colour = mix(colour, shade(rgb(0xfff0c0), 1.1 - 5.0 * far), eye);
    (colour, cover)
}
