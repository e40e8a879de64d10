//! The example `thumbnails`: three ways to the same bytes, and what it says of files that are no
//! pictures.
//!
//! Not tested here: how fast it is, and the pictures that it draws.

concurrent_futures::init_tests!();

#[path = "../examples/thumbnails/pictures.rs"]
mod pictures;
#[allow(dead_code)]
#[path = "../examples/thumbnails/ways.rs"]
mod ways;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use image::codecs::jpeg::JpegEncoder;
use image::{ColorType, DynamicImage, ImageBuffer, ImageEncoder, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use pictures::{Job, PictureError, list, resize};
use ways::Way;

const SIZES: [u32; 3] = [16, 50, 1000];

#[test]
fn the_three_ways_make_the_same_bytes() {
    let input = input("same");
    let pictures = list(&input).unwrap();
    assert_eq!(pictures.len(), 4);
    let files = Way::ALL.map(|way| {
        let output = fresh(&format!("same-{}", way.name()));
        let jobs = pictures.iter().map(|picture| Job::new(picture, &output, &SIZES)).collect();
        let run = way.run(2, jobs).unwrap();
        assert_eq!(run.made().count(), 4, "{:?}", run.results);
        contents(&output)
    });
    assert_eq!(files[0].len(), 4 * SIZES.len());
    assert!(files[0] == files[1], "threads differ from serial");
    assert!(files[0] == files[2], "processes differ from serial");
}

#[test]
fn thumbnails_keep_format_shape_and_names_apart() {
    let (input, output) = (input("shape"), fresh("shape-out"));
    for picture in list(&input).unwrap() {
        resize(Job::new(&picture, &output, &SIZES)).unwrap();
    }
    let look = |name: &str| {
        let path = output.join(name);
        let format = image::guess_format(&fs::read(&path).unwrap()).unwrap();
        let picture = image::open(&path).unwrap();
        (format!("{format:?}"), picture.width(), picture.height(), picture.color())
    };
    let of = |format: &str, width, height, color| (format.to_owned(), width, height, color);
    assert_eq!(look("hill.jpg-50.jpg"), of("Jpeg", 50, 31, ColorType::Rgb8));
    assert_eq!(look("hill.jpg-1000.jpg"), of("Jpeg", 320, 200, ColorType::Rgb8)); // never enlarged
    assert_eq!(look("hill.png-50.png"), of("Png", 31, 50, ColorType::Rgba8)); // same stem, another file
    assert_eq!(look("grey-16-bit.dat-16.png"), of("Png", 16, 16, ColorType::L8)); // the content tells
    assert_eq!(look("turned.jpg-50.jpg"), of("Jpeg", 31, 50, ColorType::Rgb8)); // upright
    // What is transparent does not stain what is not: the disc is red up to its edge.
    let disc = image::open(output.join("hill.png-50.png")).unwrap().into_rgba8();
    assert!(disc.pixels().filter(|pixel| pixel[3] > 32).all(|pixel| pixel[0] > 180 && pixel[1] < 60));
}

#[test]
fn a_jpeg_that_was_cut_off_is_an_error() {
    let (input, output) = (input("cut"), fresh("cut-out"));
    let whole = fs::read(input.join("hill.jpg")).unwrap();
    for length in [whole.len() / 3, whole.len() * 9 / 10, whole.len() - 1] {
        let path = input.join("cut.jpg");
        fs::write(&path, &whole[..length]).unwrap();
        let error = resize(Job::new(&path, &output, &SIZES)).unwrap_err();
        assert!(matches!(error, PictureError::Truncated), "{length} bytes: {error}");
    }
}

#[test]
fn broken_files_are_named_and_the_others_made() {
    for executor in ["serial", "threads", "processes"] {
        let (input, output) =
            (input(&format!("broken-{executor}")), fresh(&format!("broken-{executor}-out")));
        fs::write(input.join("broken.jpg"), "This is a letter, not a picture.").unwrap();
        let whole = fs::read(input.join("hill.jpg")).unwrap();
        fs::write(input.join("half.jpg"), &whole[..whole.len() / 2]).unwrap();
        fs::create_dir(input.join("album")).unwrap();

        let ran =
            thumbnails(&input, &output, &["--executor", executor, "--workers", "2", "--sizes", "50,16,50"]);
        let (stdout, stderr) = text(&ran);
        assert_eq!(ran.status.code(), Some(1), "{stdout}{stderr}");
        assert!(stderr.contains("broken.jpg: neither a JPEG nor a PNG file"), "{stderr}");
        assert!(stderr.contains("half.jpg: the file ends before the picture does"), "{stderr}");
        assert!(!stderr.contains("album") && !stderr.contains("panicked"), "{stderr}");
        assert!(stdout.contains(executor), "{stdout}");
        assert_eq!(contents(&output).len(), 4 * 2 + 1, "four pictures, two sizes, one contact sheet");
    }
}

#[test]
fn all_three_ways_are_compared() {
    let (input, output) = (input("all"), fresh("all-out"));
    let ran = thumbnails(&input, &output, &["--workers", "2"]);
    let (stdout, stderr) = text(&ran);
    assert!(ran.status.success(), "{stdout}{stderr}");
    assert!(stdout.contains("the 12 thumbnails of all 3 ways are byte-identical"), "{stdout}");
    assert!(image::open(output.join("contact-sheet.png")).unwrap().width() > 400);
    assert_eq!(stderr, "");
}

#[test]
fn what_cannot_be_done_at_all_ends_with_status_2() {
    let (input, output, empty) = (input("usage"), fresh("usage-out"), fresh("usage-empty"));
    let missing = empty.join("missing");
    let runs = [
        ("--workers", thumbnails(&input, &output, &["--workers", "0"])),
        ("--sizes", thumbnails(&input, &output, &["--sizes", "64,0"])),
        ("--executor", thumbnails(&input, &output, &["--executor", "magic"])),
        ("missing", thumbnails(&missing, &output, &[])),
        ("holds no files", thumbnails(&empty, &output, &[])),
        ("itself", thumbnails(&input, &input, &["--executor", "serial"])),
    ];
    for (expected, ran) in runs {
        let (stdout, stderr) = text(&ran);
        assert_eq!(ran.status.code(), Some(2), "{expected}: {stdout}{stderr}");
        assert!(stderr.contains(expected) && !stderr.contains("panicked"), "{expected}: {stderr}");
    }
}

/// Runs the example.
fn thumbnails(input: &Path, output: &Path, options: &[&str]) -> Output {
    let mut example = Command::new(&*EXAMPLE);
    example.arg("--input").arg(input).arg("--output").arg(output).args(options).output().unwrap()
}

/// Where the example is: beside the tests. `cargo test` builds it there, `cargo test --test
/// thumbnails` does not, so it is built here; if it is there already, that is done at once.
static EXAMPLE: LazyLock<PathBuf> = LazyLock::new(|| {
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap();
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--example", "thumbnails"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    build.arg("--target-dir").arg(profile.parent().unwrap());
    if profile.ends_with("release") {
        build.arg("--release");
    }
    assert!(build.status().unwrap().success(), "the example cannot be built");
    profile.join("examples").join(format!("thumbnails{}", std::env::consts::EXE_SUFFIX))
});

fn text(ran: &Output) -> (String, String) {
    (String::from_utf8_lossy(&ran.stdout).into(), String::from_utf8_lossy(&ran.stderr).into())
}

/// A directory of this name with nothing in it.
fn fresh(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("thumbnails").join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

/// A directory with four small pictures, each of another kind.
fn input(name: &str) -> PathBuf {
    let directory = fresh(name);
    let hill =
        RgbImage::from_fn(320, 200, |x, y| Rgb([(x / 2) as u8, (y + x / 9) as u8, (x * y / 400) as u8]));
    hill.save(directory.join("hill.jpg")).unwrap();
    // A red disc; around it is green that nobody should see.
    let disc = RgbaImage::from_fn(200, 320, |x, y| match (x as i32 - 100).pow(2) + (y as i32 - 160).pow(2) {
        0..8100 => Rgba([230, 20, 40, 255]),
        _ => Rgba([0, 255, 0, 0]),
    });
    disc.save(directory.join("hill.png")).unwrap();
    let grey: ImageBuffer<Luma<u16>, _> = ImageBuffer::from_fn(120, 120, |x, y| Luma([(x * y * 4) as u16]));
    let grey = DynamicImage::ImageLuma16(grey);
    grey.save_with_format(directory.join("grey-16-bit.dat"), image::ImageFormat::Png).unwrap();
    // The header of a camera that was held upright: one entry, orientation (0x112), a quarter turn (6).
    let turned = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    let mut encoder = JpegEncoder::new(fs::File::create(directory.join("turned.jpg")).unwrap());
    encoder.set_exif_metadata(turned.to_vec()).unwrap();
    hill.write_with_encoder(encoder).unwrap();
    directory
}

/// Name and bytes of every file in a directory.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = list(directory).unwrap();
    files.into_iter().map(|path| (path.file_name().unwrap().into(), fs::read(&path).unwrap())).collect()
}
