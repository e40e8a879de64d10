//! One picture in, its thumbnails out: the function that every executor runs. [`resize`] works from file to files,
//! [`shrink`] from bytes to bytes.
//!
//! Not here: who runs it, and in what order. [`resize`] is a plain function of its argument,
//! and the argument can be serialised. That is all a worker process asks for, and because
//! nothing else goes in, every executor makes the same bytes.
//!
//! A thumbnail has 8 bits a channel, keeps its format (JPEG or PNG), stands upright as the
//! camera held it, and is never larger than the picture. Colour profiles are not kept.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Cursor};
use std::path::{Path, PathBuf};

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbaImage};
use serde::{Deserialize, Serialize};

/// What to make of one picture.
///
/// The paths are `OsString`s: serde refuses a `PathBuf` that is not Unicode, which a
/// user's own may be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    picture: OsString,
    output: OsString,
    sizes: Vec<u32>,
}

impl Job {
    /// `sizes` are lengths of the longer side in pixels, in rising order.
    pub(crate) fn new(picture: &Path, output: &Path, sizes: &[u32]) -> Self {
        Job { picture: picture.into(), output: output.into(), sizes: sizes.to_vec() }
    }
}

/// What was made of one picture.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Made {
    /// Width and height of the picture, upright.
    pub(crate) dimensions: (u32, u32),
    /// The files, one for each size, in the order of the sizes.
    pub(crate) thumbnails: Vec<OsString>,
}

/// Why there are no thumbnails of a picture.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PictureError {
    #[error("neither a JPEG nor a PNG file")]
    Unknown,
    #[error("the file ends before the picture does")]
    Truncated,
    #[error("cannot be read: {0}")]
    Read(io::Error),
    #[error("cannot be decoded: {0}")]
    Decode(ImageError),
    #[error("cannot be encoded in size {0}: {1}")]
    Encode(u32, ImageError),
    #[error("{0} cannot be written: {1}")]
    Write(String, io::Error),
}

/// The files of a directory that are to be tried as pictures, by name. Directories are not entered.
pub(crate) fn list(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        // A file that cannot even be looked at stays in: `resize` will say why.
        if fs::metadata(&path).map_or(true, |found| found.is_file()) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The thumbnails of a picture, before they are anywhere.
#[derive(Debug)]
pub(crate) struct Thumbnails {
    /// Width and height of the picture, upright.
    pub(crate) dimensions: (u32, u32),
    /// What their names end with.
    pub(crate) extension: &'static str,
    /// One file for each size, in the order of the sizes.
    pub(crate) files: Vec<Vec<u8>>,
}

/// Reads the picture and writes its thumbnails.
pub(crate) fn resize(job: Job) -> Result<Made, PictureError> {
    let file = fs::read(&job.picture).map_err(PictureError::Read)?;
    let Thumbnails { dimensions, extension, files } = shrink(&file, &job.sizes)?;
    let mut thumbnails = Vec::new();
    for (size, bytes) in job.sizes.iter().zip(files) {
        let path = thumbnail_path(&job, *size, extension);
        fs::write(&path, bytes).map_err(|error| PictureError::Write(path.display().to_string(), error))?;
        thumbnails.push(path.into());
    }
    Ok(Made { dimensions, thumbnails })
}

/// Decodes the picture once and encodes it in every size.
pub(crate) fn shrink(file: &[u8], sizes: &[u32]) -> Result<Thumbnails, PictureError> {
    let (format, picture) = decode(file)?;
    let dimensions = (picture.width(), picture.height());
    // Colour that is weighted by its opacity: otherwise what is invisible bleeds into the edges.
    let transparent = picture.color().has_alpha();
    let mut picture = if transparent { premultiplied(picture.into_rgba8()) } else { eight_bits(picture) };

    let mut files = Vec::new();
    // From the largest to the smallest, each out of the one before: only the first pays for
    // all the pixels. Catmull-Rom is nearly as sharp as Lanczos, rings less, and is faster;
    // `DynamicImage::thumbnail` would be faster still, but its blocks show in fine patterns.
    for &size in sizes.iter().rev() {
        let (width, height) = fit(dimensions, size);
        if (width, height) != (picture.width(), picture.height()) {
            picture = picture.resize_exact(width, height, FilterType::CatmullRom);
        }
        let mut bytes = Vec::new();
        let encoded = match (format, transparent) {
            (ImageFormat::Jpeg, _) => {
                picture.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, 85))
            }
            (_, false) => picture.write_with_encoder(PngEncoder::new(&mut bytes)),
            (_, true) => straight(picture.to_rgba8()).write_with_encoder(PngEncoder::new(&mut bytes)),
        };
        encoded.map_err(|error| PictureError::Encode(size, error))?;
        files.push(bytes);
    }
    files.reverse();
    let extension = if format == ImageFormat::Jpeg { "jpg" } else { "png" };
    Ok(Thumbnails { dimensions, extension, files })
}

/// `sunset.jpg` becomes `sunset.jpg-200.jpg`. The whole name stays: beside `sunset.jpg`
/// there may be a `sunset.png`.
fn thumbnail_path(job: &Job, size: u32, extension: &str) -> PathBuf {
    let mut name = Path::new(&job.picture).file_name().unwrap_or_default().to_owned();
    name.push(format!("-{size}.{extension}"));
    Path::new(&job.output).join(name)
}

/// The same shape with a longer side of `size`, but never larger than it is.
fn fit((width, height): (u32, u32), size: u32) -> (u32, u32) {
    let longer = width.max(height);
    let shrunk = |side: u32| (f64::from(side) * f64::from(size) / f64::from(longer)).round() as u32;
    if size >= longer { (width, height) } else { (shrunk(width).max(1), shrunk(height).max(1)) }
}

/// The format is told by the content, as a file name may lie, and the picture is turned upright.
fn decode(file: &[u8]) -> Result<(ImageFormat, DynamicImage), PictureError> {
    let format = image::guess_format(file).map_err(|_| PictureError::Unknown)?;
    if format == ImageFormat::Jpeg && !jpeg_ends(file) {
        return Err(PictureError::Truncated);
    }
    let upright = || {
        let mut decoder = ImageReader::with_format(Cursor::new(file), format).into_decoder()?;
        // A small file can claim to be enormous: within the default limit (512 MiB) or not at all.
        Limits::default().reserve(decoder.total_bytes())?;
        let orientation = decoder.orientation()?;
        let mut picture = DynamicImage::from_decoder(decoder)?;
        picture.apply_orientation(orientation);
        Ok(picture)
    };
    Ok((format, upright().map_err(PictureError::Decode)?))
}

/// Does the end marker follow the last scan? The decoder paints what is missing grey and is
/// content. (A search for the marker alone would find that of the preview inside the header.)
fn jpeg_ends(file: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&[byte, marker]) = file.get(at..at + 2) {
        at += match (byte, marker) {
            (0xFF, 0xD9) => return true,
            // A segment: two bytes of marker, then its length, which counts itself.
            (0xFF, 0xC0..=0xCF | 0xDA..=0xFE) => match file.get(at + 2..at + 4) {
                Some(&[high, low]) => 2 + usize::from(u16::from_be_bytes([high, low])),
                _ => return false,
            },
            // Pixels, and the stuffing and restart markers among them.
            _ => 1,
        };
    }
    false
}

fn eight_bits(picture: DynamicImage) -> DynamicImage {
    if picture.color().has_color() { picture.into_rgb8().into() } else { picture.into_luma8().into() }
}

fn premultiplied(mut picture: RgbaImage) -> DynamicImage {
    for pixel in picture.pixels_mut() {
        let alpha = u32::from(pixel[3]);
        pixel.0[..3]
            .iter_mut()
            .for_each(|channel| *channel = ((u32::from(*channel) * alpha + 127) / 255) as u8);
    }
    picture.into()
}

fn straight(mut picture: RgbaImage) -> DynamicImage {
    for pixel in picture.pixels_mut() {
        let alpha = u32::from(pixel[3]).max(1);
        pixel.0[..3]
            .iter_mut()
            .for_each(|channel| *channel = ((u32::from(*channel) * 255 + alpha / 2) / alpha).min(255) as u8);
    }
    picture.into()
}
