//! Made pictures that look like photographs: skies, mountains, water, stars.
//!
//! Each is a function from a point (`y` from 0 at the top to 1, `x` to the same scale) to
//! its colour. None of this has to do with the executors.

use crate::paint::{
    Colour, cell, clouds, gradient, length, lit, mix, noise, ramp, random, rgb, ridges, shade, stars,
};

/// A sun that goes down behind five ranges of mountains.
pub(crate) fn sunset(x: f32, y: f32) -> Colour {
    const RANGES: [Colour; 5] = [rgb(0xb8647a), rgb(0x74456f), rgb(0x3c2a52), rgb(0x1a1631), rgb(0x0a0a18)];
    // From the nearest range to the furthest: the first that is met hides the rest.
    for range in (0..5).rev() {
        let depth = range as f32;
        let foot = 0.58 + 0.085 * depth;
        let height = 0.20 - 0.018 * depth;
        if y < foot - height {
            continue;
        }
        let crest = foot - height * ridges(x * (1.3 + 0.5 * depth) + 7.7 * depth, 3.1 * depth, 7);
        if y > crest {
            // Mist fills the valley in front of the range.
            let mist = (0.42 - 0.09 * depth) * ramp(0.0, 0.22, y - crest);
            return mix(RANGES[range], rgb(0xf08a6a), mist);
        }
    }
    const SKY: [Colour; 6] =
        [rgb(0x1b2450), rgb(0x46407c), rgb(0x9a4f84), rgb(0xe8715f), rgb(0xffb25c), rgb(0xffe08a)];
    let from_sun = length(x - 0.98, y - 0.56);
    let mut colour = gradient(&SKY, y / 0.66);
    // Clouds: long and flat, lit from below.
    let veil = clouds(x * 1.6, y * 9.0, 6);
    let edge = clouds(x * 1.6, y * 9.0 + 0.35, 4) - veil;
    let warm = mix(rgb(0x6a4a7c), rgb(0xffa070), 0.5 + 4.0 * edge + 0.3 * y);
    colour = mix(colour, warm, 0.8 * ramp(0.52, 0.75, veil) * ramp(0.62, 0.2, y));
    colour = lit(colour, rgb(0xff9a4a), 0.55 * (-3.2 * from_sun).exp());
    mix(colour, rgb(0xfff6d8), ramp(0.064, 0.060, from_sun))
}

/// A lake under the moon, with the far shore mirrored in it. Very wide.
pub(crate) fn lake(x: f32, y: f32) -> Colour {
    const WATER: f32 = 0.62;
    if y < WATER {
        return shore(x, y);
    }
    // What is mirrored is further up the nearer the water is to us, and shivers.
    let below = y - WATER;
    let ripple = noise(x * 9.0, 14.0 / (below + 0.035)) - 0.5;
    let fine = noise(x * 60.0, 60.0 / (below + 0.06)) - 0.5;
    let wave = (0.7 * ripple + 0.5 * fine) * (0.02 + 0.16 * below);
    let mirrored = shore(x + wave, WATER - below * 0.95 - 1.2 * wave.abs());
    let dark = mix(mirrored, rgb(0x050b18), 0.3 + 0.5 * below);
    lit(dark, rgb(0x9fb8e8), 0.05 * ramp(0.2, 0.5, fine + ripple))
}

fn shore(x: f32, y: f32) -> Colour {
    const RANGES: [Colour; 4] = [rgb(0x5c7cae), rgb(0x345486), rgb(0x182c50), rgb(0x081224)];
    for range in (0..4).rev() {
        let depth = range as f32;
        let height = 0.46 - 0.13 * depth;
        if y < 0.615 - height {
            continue;
        }
        let rough = ridges(x * (0.9 + 0.5 * depth) + 11.3 * depth, 5.0 * depth + 0.7, 7);
        let crest = 0.615 - height * rough * (0.72 + 0.28 * noise(x * 0.7, depth));
        if y > crest {
            // Snow lies high up on the far ranges, more of it on the slopes that face the moon.
            let facing = clouds(x * 9.0 - 5.0 * y, y * 13.0 + 7.0 * depth, 5);
            let snow = ramp(0.50, 0.62, facing + 0.5 * ramp(0.50, 0.22, y)) * ramp(0.46, 0.34, y);
            let haze = 0.5 * ramp(0.40, 0.62, y) * (1.0 - 0.3 * depth);
            let slope = mix(RANGES[range], rgb(0xdfe8f8), 0.85 * snow * ramp(1.7, 0.6, depth));
            return mix(slope, rgb(0x7f9cc8), haze);
        }
    }
    const SKY: [Colour; 4] = [rgb(0x0c1a38), rgb(0x1c3a6e), rgb(0x4670a8), rgb(0xa8bcd4)];
    let (moon_x, moon_y) = (2.55, 0.20);
    let from_moon = length(x - moon_x, y - moon_y);
    let mut colour = gradient(&SKY, y / 0.62);
    colour = lit(colour, rgb(0xffffff), stars(x, y, 26.0) * ramp(0.5, 0.1, y));
    let veil = ramp(0.48, 0.80, clouds(x * 1.1 + 4.0, y * 7.0, 6));
    colour = lit(colour, rgb(0x9ab4e4), 0.45 * veil);
    colour = lit(colour, rgb(0x8fa8d8), 0.55 * (-4.5 * from_moon).exp());
    let seas = if from_moon < 0.08 { 0.82 + 0.22 * clouds(x * 30.0, y * 30.0, 4) } else { 1.0 };
    mix(colour, shade(rgb(0xf8f4e4), seas), ramp(0.074, 0.071, from_moon))
}

/// An island from above, lit from the north-west as maps are.
pub(crate) fn island(x: f32, y: f32) -> Colour {
    let height = |x: f32, y: f32| {
        let far = length((x - 0.67) / 0.80, (y - 0.5) / 0.58);
        let land = clouds(x * 3.4 + 3.0, y * 3.4 + 1.0, 8);
        0.78 * land + 0.38 * ridges(x * 3.0, y * 3.0, 6) * land - 0.42 * far.powi(2)
    };
    let here = height(x, y);
    if here < 0.30 {
        let swell = 0.03 * clouds(x * 40.0, y * 70.0, 3);
        let sea =
            gradient(&[rgb(0x0b2a4f), rgb(0x12487a), rgb(0x1d7f9f), rgb(0x7fd0c4)], here / 0.30 * 1.1 - 0.1);
        let foam = ramp(0.288, 0.298, here + 0.2 * swell) * noise(x * 190.0, y * 190.0);
        return lit(sea, rgb(0xffffff), swell + 0.55 * foam);
    }
    const STEP: f32 = 0.0012;
    let slope_x = (height(x + STEP, y) - here) / STEP;
    let slope_y = (height(x, y + STEP) - here) / STEP;
    let light = (1.0 + 0.42 * (slope_x + slope_y)) / (1.0 + 0.18 * length(slope_x, slope_y));
    const LAND: [Colour; 7] = [
        rgb(0xe6d7a0),
        rgb(0x8fae5a),
        rgb(0x4f8a41),
        rgb(0x3b6f3a),
        rgb(0x80704f),
        rgb(0x8f8a84),
        rgb(0xffffff),
    ];
    let patches = 0.06 * (clouds(x * 22.0, y * 22.0, 4) - 0.5);
    shade(gradient(&LAND, (here - 0.30) / 0.30 + patches), light.clamp(0.35, 1.35))
}

/// Firs on seven slopes, one behind the other, in the morning mist. Upright.
pub(crate) fn forest(x: f32, y: f32) -> Colour {
    const SLOPES: [Colour; 5] = [rgb(0xb4c4bf), rgb(0x86a19e), rgb(0x56797a), rgb(0x2c5052), rgb(0x0d2528)];
    for slope in (0..7).rev() {
        let depth = slope as f32;
        let ground = 0.34 + 0.095 * depth + 0.10 * (clouds(x * 1.7 + 5.0 * depth, depth, 3) - 0.5);
        let spacing = 0.014 + 0.008 * depth;
        if y > ground || fir(x + 0.37 * depth, ground - y, spacing, slope) {
            let mist = ramp(-0.02, 0.14, y - ground) * (0.75 - 0.06 * depth);
            let drift = 0.75 + 0.5 * clouds(x * 3.0 + depth, y * 7.0, 4);
            return mix(gradient(&SLOPES, depth / 6.0), rgb(0xe4e2d4), mist * drift);
        }
    }
    let from_sun = length(x - 0.52, y - 0.2);
    let sky = gradient(&[rgb(0x9db8c4), rgb(0xd9dcd0), rgb(0xf3e6cb)], y / 0.55);
    let sky = lit(sky, rgb(0xffe2a8), 0.5 * (-6.0 * from_sun).exp());
    mix(sky, rgb(0xfffbee), ramp(0.052, 0.046, from_sun))
}

/// Is this point, `up` above the ground, inside one of the firs of a slope?
fn fir(x: f32, up: f32, spacing: f32, slope: i32) -> bool {
    let place = cell(x / spacing);
    // A tree is wider than its place: the neighbours reach in. None is taller than six places.
    up < 6.4 * spacing
        && (place - 1..=place + 1).any(|tree| {
            let middle = (tree as f32 + random(tree, slope)) * spacing;
            let height = spacing * (2.2 + 4.2 * random(tree, slope + 40));
            let down = 1.0 - (up + 0.3 * spacing) / height; // 0 at the top of the tree, 1 at its foot
            let branch = 11.0 * down + 3.0 * random(tree, 9);
            let half = 0.19 * height * down * (0.62 + 0.38 * (branch - cell(branch) as f32));
            let away = (x - middle).abs();
            down > 0.0 && away < 1.2 * half && away < half * (0.8 + 0.4 * noise(x * 900.0, up * 700.0))
        })
}

/// Northern lights over a dark ridge.
pub(crate) fn aurora(x: f32, y: f32) -> Colour {
    for (depth, ink) in [(1.0, rgb(0x02060a)), (0.0, rgb(0x0a1a22))] {
        let foot = 0.86 + 0.06 * depth;
        if y > foot - 0.16 && y > foot - 0.16 * ridges(x * (1.4 + depth) + 5.5 * depth, 9.0, 8) {
            return ink;
        }
    }
    let sky = gradient(&[rgb(0x050914), rgb(0x0a1830), rgb(0x12304a)], y);
    let mut colour = lit(sky, rgb(0xe8f0ff), 0.9 * stars(x, y, 34.0));
    for curtain in 0..3 {
        let at = curtain as f32;
        // The hem of the curtain winds; its rays stand on it and fade upwards.
        let hem = 0.68 - 0.13 * at + 0.30 * (clouds(x * 1.1 + 4.0 * at, 2.0 * at, 3) - 0.5);
        let up = hem - y;
        colour = lit(colour, rgb(0x1c8f6a), 0.10 * (-6.0 * up.abs()).exp());
        if up > 0.0 {
            let rays = 0.35 + 0.65 * clouds(x * 26.0 + 6.0 * up, 0.6 * up + 7.0 * at, 4);
            let glow = (-4.2 * up).exp() * ramp(0.0, 0.03, up) * (1.0 - 0.22 * at);
            const HUES: [Colour; 4] = [rgb(0x4dff9a), rgb(0x37d7a0), rgb(0x6a5cff), rgb(0xb04dd0)];
            colour = lit(colour, gradient(&HUES, up * 2.2), glow * rays * rays);
        }
    }
    colour
}

/// A nebula with dust before it and stars in it. Upright.
pub(crate) fn nebula(x: f32, y: f32) -> Colour {
    let (u, v) = (x * 2.3, y * 2.3);
    let (warp_x, warp_y) = (clouds(u + 3.0, v, 5), clouds(u, v + 8.0, 5));
    let gas = clouds(u + 2.4 * warp_x, v + 2.4 * warp_y, 7);
    let dust = ridges(u * 0.9 + 1.5 * warp_y, v * 0.9 + 1.2 * warp_x + 4.0, 7);
    let band = (-5.0 * (x - 0.15 - 0.5 * y + 0.2 * warp_x).powi(2)).exp();
    let glow = ramp(0.30, 0.78, gas) * band;
    const GAS: [Colour; 5] = [rgb(0x04050c), rgb(0x2a1450), rgb(0xa0246a), rgb(0xff8a5a), rgb(0xfff0d0)];
    let mut colour = gradient(&GAS, glow * 1.15);
    colour = lit(colour, rgb(0x1d6fd0), 0.75 * ramp(0.42, 0.8, warp_x) * (0.3 + band) * (1.0 - glow));
    colour = shade(colour, 1.0 - 0.75 * ramp(0.45, 0.8, dust) * band);
    let near = stars(x, y, 14.0);
    colour = lit(colour, rgb(0xfff4e0), 1.2 * near);
    lit(colour, rgb(0xd0e0ff), 0.8 * stars(x + 5.0, y, 60.0) + 0.5 * stars(x, y + 5.0, 130.0))
}

/// A banded planet with rings, half in its own shadow.
pub(crate) fn planet(x: f32, y: f32) -> Colour {
    let mut colour =
        lit(rgb(0x04060c), rgb(0xffffff), 0.8 * stars(x, y, 40.0) + 0.4 * stars(x, y + 3.0, 95.0));
    let haze = clouds(x * 1.6 + 2.0, y * 1.6, 5);
    colour = lit(colour, rgb(0x1a2a50), 0.6 * ramp(0.4, 0.8, haze));
    // Turned, so that the rings lie aslant.
    let (dx, dy) = (x - 0.62, y - 0.5);
    let (u, v) = ((dx * 0.94 + dy * 0.34) / 0.27, (-dx * 0.34 + dy * 0.94) / 0.27);
    let ring = ring_light(length(u, v / 0.30), u, v);
    let behind = v < 0.0;
    if behind {
        colour = mix(colour, rgb(0xe8d4b0), ring);
    }
    let from_middle = length(u, v);
    if from_middle < 1.0 {
        let z = (1.0 - from_middle * from_middle).sqrt();
        let swirl = clouds(u * 3.0 + 4.0, v * 9.0, 6) - 0.5;
        let band = (v * 15.0 + 2.2 * swirl + 0.8 * (v * 41.0).sin()).sin() * 0.5 + 0.5;
        let face = gradient(&[rgb(0xa86a44), rgb(0xd8a070), rgb(0xf2dcb4), rgb(0xc98f64)], band);
        let day = (-0.62 * u - 0.35 * v + 0.70 * z + 0.05).max(0.0);
        let rim = ramp(1.0, 0.985, from_middle);
        colour = mix(colour, shade(face, 0.02 + 1.1 * day.powf(0.8)), rim);
    }
    if !behind {
        colour = mix(colour, rgb(0xe8d4b0), ring);
    }
    colour
}

/// How much of the ring covers this point: many grooves, one wide gap, the planet's shadow.
fn ring_light(radius: f32, u: f32, v: f32) -> f32 {
    let grooves = 0.55 + 0.45 * noise(radius * 60.0, 0.0) * noise(radius * 17.0, 3.0) * 2.0;
    let gap = 1.0 - 0.9 * ramp(0.04, 0.0, (radius - 1.95).abs());
    let shadow = ramp(0.75, 1.05, (v / 0.30 + 0.55 * u).abs()).max(ramp(0.3, -0.1, u));
    ramp(1.30, 1.36, radius) * ramp(2.28, 2.22, radius) * grooves * gap * (0.15 + 0.85 * shadow)
}

/// City lights out of focus.
pub(crate) fn lights(x: f32, y: f32) -> Colour {
    const LAMPS: [Colour; 6] =
        [rgb(0xffb347), rgb(0xff7a3c), rgb(0xffe3a0), rgb(0xff4f6d), rgb(0x58c7ff), rgb(0xf8f4e8)];
    let mut colour = gradient(&[rgb(0x0a0d1c), rgb(0x141530), rgb(0x2a1a30), rgb(0x0c0a14)], y);
    for layer in 0..4 {
        let size = [0.055, 0.10, 0.15, 0.24][layer as usize];
        let (i, j) = (cell(x / size), cell(y / size));
        for near in 0..9 {
            let (i, j) = (i + near % 3 - 1, j + near / 3 - 1);
            let lamp = |what: i32| random(i + 59 * what, j + 31 * layer);
            // More of them near the horizon, where the street is.
            let middle_y = (j as f32 + lamp(1)) * size;
            if lamp(2) > 0.62 - 1.3 * (middle_y - 0.58).abs() {
                continue;
            }
            let radius = size * (0.28 + 0.3 * lamp(3));
            let away = length(x - (i as f32 + lamp(4)) * size, y - middle_y) / radius;
            // A lens draws a disc that is a little brighter at its rim.
            let disc = ramp(1.0, 0.94, away) * (0.55 + 0.45 * away * away);
            let hue = LAMPS[(lamp(5) * 6.0) as usize % 6];
            colour = lit(colour, hue, disc * (0.12 + 0.5 * lamp(6)) * (1.0 - 0.17 * layer as f32));
        }
    }
    colour
}
