//! The paint box of the made pictures: colours, gradients and repeatable noise.
//!
//! Not a drawing library. A made picture is a function from a point to a colour, as a
//! fragment shader is; these are the pieces such functions are put together from.

/// Red, green and blue from 0 to 1, as a screen takes them (sRGB).
pub(crate) type Colour = [f32; 3];

/// The colour `0xRRGGBB`.
pub(crate) const fn rgb(hex: u32) -> Colour {
    [(hex >> 16 & 0xff) as f32 / 255.0, (hex >> 8 & 0xff) as f32 / 255.0, (hex & 0xff) as f32 / 255.0]
}

/// From `a` (at 0) to `b` (at 1).
pub(crate) fn mix(a: Colour, b: Colour, t: f32) -> Colour {
    let t = t.clamp(0.0, 1.0);
    std::array::from_fn(|i| a[i] + (b[i] - a[i]) * t)
}

/// `colour` with that much more of `light` in it.
pub(crate) fn lit(colour: Colour, light: Colour, amount: f32) -> Colour {
    std::array::from_fn(|i| colour[i] + light[i] * amount)
}

/// `colour`, brighter or darker.
pub(crate) fn shade(colour: Colour, factor: f32) -> Colour {
    colour.map(|channel| channel * factor)
}

/// The colour at `t` (0 to 1) of a gradient with evenly spaced stops.
pub(crate) fn gradient(stops: &[Colour], t: f32) -> Colour {
    let t = t.clamp(0.0, 1.0) * (stops.len() - 1) as f32;
    let i = (t as usize).min(stops.len() - 2);
    mix(stops[i], stops[i + 1], t - i as f32)
}

/// 0 below `low`, 1 above `high`, smooth between.
pub(crate) fn ramp(low: f32, high: f32, x: f32) -> f32 {
    let t = ((x - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// A number from 0 to 1 that belongs to a point of the grid: always the same one.
pub(crate) fn random(x: i32, y: i32) -> f32 {
    let mut h = (x as u32).wrapping_mul(0x9E37_79B1) ^ (y as u32).wrapping_mul(0x85EB_CA77);
    h = (h ^ (h >> 15)).wrapping_mul(0x2C1B_3C6D);
    h = (h ^ (h >> 12)).wrapping_mul(0x297A_2D39);
    (h >> 8) as f32 / (1 << 24) as f32
}

/// The length of (`x`, `y`). `hypot` minds overflow, which no picture has, and takes its time.
pub(crate) fn length(x: f32, y: f32) -> f32 {
    (x * x + y * y).sqrt()
}

/// The grid cell of a coordinate: what `floor` does, without the call that `floor` costs
/// on a processor that is not asked for more than the oldest instructions.
pub(crate) fn cell(x: f32) -> i32 {
    let towards_zero = x as i32;
    towards_zero - i32::from(x < towards_zero as f32)
}

/// Value noise: random numbers at the grid points, blended between.
pub(crate) fn noise(x: f32, y: f32) -> f32 {
    let (i, j) = (cell(x), cell(y));
    let (u, v) = (x - i as f32, y - j as f32);
    let (u, v) = (u * u * (3.0 - 2.0 * u), v * v * (3.0 - 2.0 * v));
    let (a, b) = (random(i, j), random(i + 1, j));
    let (c, d) = (random(i, j + 1), random(i + 1, j + 1));
    let (upper, lower) = (a + (b - a) * u, c + (d - c) * u);
    upper + (lower - upper) * v
}

/// Noise upon noise: each octave twice as fine and half as strong; from 0 to 1.
pub(crate) fn clouds(x: f32, y: f32, octaves: u32) -> f32 {
    let (mut sum, mut strength, mut total) = (0.0, 1.0, 0.0);
    let (mut x, mut y) = (x, y);
    for _ in 0..octaves {
        sum += strength * noise(x, y);
        total += strength;
        strength *= 0.5;
        // Turned a little each time, so that the grid never shows.
        (x, y) = (1.6 * x - 1.2 * y + 17.3, 1.2 * x + 1.6 * y - 5.7);
    }
    sum / total
}

/// Noise folded at its middle: the folds are the crests of mountains; from 0 to 1.
pub(crate) fn ridges(x: f32, y: f32, octaves: u32) -> f32 {
    let (mut sum, mut strength, mut total) = (0.0, 1.0, 0.0);
    let (mut x, mut y) = (x, y);
    for _ in 0..octaves {
        let fold = 1.0 - (2.0 * noise(x, y) - 1.0).abs();
        sum += strength * fold * fold;
        total += strength;
        strength *= 0.5;
        (x, y) = (1.6 * x - 1.2 * y + 17.3, 1.2 * x + 1.6 * y - 5.7);
    }
    sum / total
}

/// How bright a star shines at this point; `density` stars per unit of length.
pub(crate) fn stars(x: f32, y: f32, density: f32) -> f32 {
    let (x, y) = (x * density, y * density);
    let (i, j) = (cell(x), cell(y));
    let dx = x - i as f32 - 0.2 - 0.6 * random(i, j);
    let dy = y - j as f32 - 0.2 - 0.6 * random(i + 71, j);
    let brightness = random(i, j + 113).powi(6);
    let size = 0.004 + 0.03 * brightness;
    (size / (dx * dx + dy * dy + size * 0.12) * 0.12 - 0.03).clamp(0.0, 1.0)
        * (0.15 + 0.85 * brightness)
        * ramp(0.35, 0.6, random(i - 37, j + 19))
}
