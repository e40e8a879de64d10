//! The set of pictures to work on when none are given: drawn by formula, several megapixels
//! each, written to disk as JPEG and PNG. What is there already is not drawn again.

use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use concurrent_futures::ThreadPoolExecutor;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{DynamicImage, GrayImage, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use indicatif::ProgressIterator;

use crate::paint::{Colour, random};
use crate::ways::progress;
use crate::{landscapes, patterns, pictures};

/// The directory of the pictures, and all of its files: the one that was given, or one that is drawn now.
pub(crate) fn given_or_drawn(
    input: Option<PathBuf>,
    workers: usize,
) -> Result<(PathBuf, Vec<PathBuf>), Box<dyn Error>> {
    let input = match input {
        Some(input) => input,
        None => {
            let drawn = PathBuf::from("target/thumbnails/pictures");
            make(&drawn, workers)?;
            drawn
        }
    };
    let files = pictures::list(&input).map_err(|error| format!("{}: {error}", input.display()))?;
    if files.is_empty() {
        return Err(format!("{} holds no files", input.display()).into());
    }
    Ok((input, files))
}

/// Changes whenever a picture does: pictures of another version are drawn anew.
const VERSION: &str = "1";

/// How the points of a picture get their colour, and with it the kind of file.
#[derive(Clone, Copy)]
enum Ink {
    Full(fn(f32, f32) -> Colour),
    Grey(fn(f32, f32) -> Colour),
    /// With how opaque each point is.
    CutOut(fn(f32, f32) -> (Colour, f32)),
}
use Ink::{CutOut, Full, Grey};

/// Name of the file, width, height, and what is on it.
type Sample = (&'static str, u32, u32, Ink);

/// The slowest to draw come first, so that no worker is left alone with one at the end.
const SAMPLES: [Sample; 15] = [
    ("lake.jpg", 4800, 1400, Full(landscapes::lake)),
    ("mandelbrot.jpg", 2700, 1800, Full(patterns::mandelbrot)),
    ("island.jpg", 2600, 1950, Full(landscapes::island)),
    ("nebula.jpg", 1900, 2800, Full(landscapes::nebula)),
    ("glass.png", 1700, 2400, Full(patterns::glass)),
    ("aurora.jpg", 3300, 1900, Full(landscapes::aurora)),
    ("lights.jpg", 2700, 1800, Full(landscapes::lights)),
    ("forest.jpg", 2200, 2800, Full(landscapes::forest)),
    ("marble.png", 2400, 1800, Grey(patterns::marble)),
    ("sunset.jpg", 3600, 2400, Full(landscapes::sunset)),
    ("planet.jpg", 3000, 2400, Full(landscapes::planet)),
    ("julia.png", 2400, 2400, Full(patterns::julia)),
    ("rosette.png", 2000, 2000, CutOut(patterns::rosette)),
    ("rings.png", 2400, 1800, Full(patterns::rings)),
    ("tiles.png", 2500, 2000, Full(patterns::tiles)),
];

/// Draws the samples that `directory` does not have yet, one to a worker thread.
fn make(directory: &Path, workers: usize) -> Result<(), Box<dyn Error>> {
    let failed = |path: &Path, error: io::Error| format!("{} cannot be made: {error}", path.display());
    fs::create_dir_all(directory).map_err(|error| failed(directory, error))?;
    // Beside the directory, not in it: every file in it is taken for a picture. It is there
    // only while all pictures are whole, so a run that was interrupted leaves none behind.
    let marker = directory.with_extension("version");
    let current = fs::read_to_string(&marker).is_ok_and(|version| version == VERSION);
    let missing: Vec<(Sample, PathBuf)> = SAMPLES
        .into_iter()
        .map(|sample| (sample, directory.join(sample.0)))
        .filter(|(_, path)| !(current && path.exists()))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if cfg!(debug_assertions) {
        eprintln!("drawing {} pictures; with --release it takes seconds, without it minutes", missing.len());
    }
    let bar = progress("drawing", missing.len());
    let _ = fs::remove_file(&marker);
    let pool = ThreadPoolExecutor::new(workers)?;
    for drawn in pool.map(draw, missing).progress_with(bar) {
        drawn??;
    }
    fs::write(&marker, VERSION).map_err(|error| failed(&marker, error))?;
    Ok(())
}

fn draw(((_, width, height, ink), path): (Sample, PathBuf)) -> Result<(), String> {
    let scale = 1.0 / height as f32;
    let point = |x: u32, y: u32| (x as f32 * scale, y as f32 * scale);
    let full = |at: fn(f32, f32) -> Colour, x, y| {
        let (u, v) = point(x, y);
        bytes(at(u, v), x, y)
    };
    let picture: DynamicImage = match ink {
        Full(at) => RgbImage::from_fn(width, height, |x, y| Rgb(full(at, x, y))).into(),
        Grey(at) => GrayImage::from_fn(width, height, |x, y| Luma([full(at, x, y)[0]])).into(),
        CutOut(at) => RgbaImage::from_fn(width, height, |x, y| {
            let (u, v) = point(x, y);
            let (colour, cover) = at(u, v);
            let [r, g, b] = bytes(colour, x, y);
            Rgba([r, g, b, (cover * 255.0 + 0.5) as u8])
        })
        .into(),
    };
    let mut file = Vec::new();
    let encoded = match path.extension().is_some_and(|extension| extension == "png") {
        true => picture.write_with_encoder(PngEncoder::new(&mut file)),
        false => picture.write_with_encoder(JpegEncoder::new_with_quality(&mut file, 90)),
    };
    encoded.map_err(|error| format!("{}: {error}", path.display()))?;
    fs::write(&path, file).map_err(|error| format!("{}: {error}", path.display()))
}

/// The nearest bytes, give or take a grain of film: no smooth sky shows bands. (`as` stays
/// within 0 and 255.)
fn bytes(colour: Colour, x: u32, y: u32) -> [u8; 3] {
    let grain = 3.0 * (random(x as i32, y as i32) - 0.5);
    colour.map(|channel| (channel * 255.0 + grain + 0.5) as u8)
}
