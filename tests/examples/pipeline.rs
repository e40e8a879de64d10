use std::fs;
use std::path::{Path, PathBuf};

use image::{ImageFormat, Rgb, RgbImage};

use crate::running::run;

/// A directory with three pictures in it, of which one is to be escaped in an address.
fn pictures(of: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pipeline").join(of);
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    for (name, format) in
        [("a.jpg", ImageFormat::Jpeg), ("b #1 %.png", ImageFormat::Png), ("c.png", ImageFormat::Png)]
    {
        let picture = RgbImage::from_fn(120, 80, |x, y| Rgb([x as u8, y as u8, (x ^ y) as u8]));
        picture.save_with_format(directory.join(name), format).unwrap();
    }
    directory
}

fn pipeline(of: &str, more: &[&str]) -> crate::running::Ran {
    let directory = pictures(of);
    if of == "broken" {
        fs::write(directory.join("d.txt"), "no picture").unwrap();
    }
    let input = ["--input", directory.to_str().unwrap(), "--delay", "1", "--sizes", "16,40"];
    run("pipeline", &[&input, more].concat())
}

#[test]
fn all_thumbnails_arrive() {
    let said =
        pipeline("whole", &["--rounds", "5", "--fetchers", "3", "--makers", "2", "--storers", "1"]).well();
    let lines: Vec<_> = said.lines().collect();
    let stages = [("fetch", "threads", "3"), ("make", "processes", "2"), ("store", "threads", "1")];
    for (line, (stage, executor, workers)) in lines[1..4].iter().zip(stages) {
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!(words[..4], [stage, executor, workers, "15"], "{said}");
    }
    let bottleneck = lines[4].strip_prefix("the bottleneck is ").unwrap();
    assert!(stages.iter().any(|stage| stage.0 == bottleneck), "{said}");
    assert!(lines[5].starts_with("30 thumbnails arrived, "), "{said}");
}

#[test]
fn what_is_no_picture_is_told_and_all_others_arrive() {
    let ran = pipeline("broken", &["--rounds", "2", "--makers", "1"]);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert_eq!(ran.stderr, "make: d.txt: neither a JPEG nor a PNG file\n".repeat(2));
    let arrived = ran.stdout.lines().last().unwrap();
    assert!(arrived.starts_with("12 thumbnails arrived, "), "{ran:?}");
}
