//! `map` beside `zip`: what went in, and what came out of it. SHA-384 of texts and of files, as `sha384sum` prints it.
//!
//!     cargo run --release --example hashes
//!     cargo run --release --example hashes -- --executor threads Cargo.toml README.md
//!
//! A map yields its results in the order of its items, whoever was done first. So the two lie side by side, and nothing
//! needs to travel back with its name. Hashing is computation, and reading is not: both get faster with more workers.
//!
//! Not here: SHA-384 itself, which is the crate `sha2`. The rule: every way has the same digests, or the exit status is 1.

#[path = "shared/ways.rs"]
mod ways;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, process};

use clap::Parser;
use concurrent_futures::{Error, Executor, init};
use sha2::{Digest, Sha384};

use crate::ways::{Run, Ways, speed_up};

/// Prints the SHA-384 of texts and of files, and compares the ways to compute them.
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    ways: Ways,

    /// Files; not given: makes eight in the temporary directory, and removes them
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    /// How large the files are that are made
    #[arg(long, value_name = "MIB", default_value_t = 32)]
    mebibytes: usize,
}

const TEXTS: [&str; 4] = ["", "abc", "The quick brown fox jumps over the lazy dog", "Füße, 足, 🦶"];

fn hash_text(text: String) -> String {
    in_hex(Sha384::digest(text))
}

/// A piece at a time, so that a file may be larger than memory.
fn hash_file(path: PathBuf) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha384::new();
    let mut piece = vec![0; 1 << 16];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(in_hex(hash.finalize())),
            length => hash.update(&piece[..length]),
        }
    }
}

fn in_hex(digest: impl AsRef<[u8]>) -> String {
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A digest for each text and for each file. Where there is none, what was wrong with that file.
#[derive(PartialEq)]
struct Digests {
    texts: Vec<String>,
    files: Vec<Result<String, String>>,
}

fn hash(executor: &impl Executor, files: &[PathBuf]) -> Result<Digests, Error> {
    let texts = executor.map(hash_text, TEXTS.map(String::from));
    let files = executor.try_map(hash_file, files.to_vec());
    Ok(Digests {
        texts: texts.collect::<Result<_, _>>()?,
        files: files.map(|digest| digest.map_err(cause)).collect(),
    })
}

/// What `hash_file` returned, in its own words; anything else in the library's.
fn cause(error: Error) -> String {
    match error {
        Error::Raised { error, .. } => error.to_string(),
        other => other.to_string(),
    }
}

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    init(); // first line of main: in a worker process it never returns
    let mut options = Options::parse();
    let made = Made(env::temp_dir().join(format!("hashes-{}", process::id())));
    if options.files.is_empty() {
        options.files = made.make(8, options.mebibytes << 20)?;
    }
    let size: u64 = options.files.iter().filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum();

    let runs = options.ways.compare(|executor| hash(&executor, &options.files))?;

    let Digests { texts, files } = &runs[0].value;
    for (text, digest) in TEXTS.iter().zip(texts) {
        println!("{digest}  {text:?}");
    }
    for (file, digest) in options.files.iter().zip(files) {
        match digest {
            Ok(digest) => println!("{digest}  {}", file.display()),
            Err(error) => eprintln!("{}: {error}", file.display()),
        }
    }
    table(&runs, size);

    let same = runs.iter().all(|run| run.value == runs[0].value);
    if !same {
        eprintln!("the digests are not the same every way");
    }
    let well = same && files.iter().all(Result::is_ok);
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn table(runs: &[Run<Digests>], bytes: u64) {
    println!("\nway        workers  seconds    MiB/s  speed-up");
    for run in runs {
        let (name, workers, seconds) = (run.name, run.workers, run.time.as_secs_f64());
        let rate = bytes as f64 / f64::from(1 << 20) / seconds;
        println!("{name:9} {workers:>8} {seconds:>8.3} {rate:>8.1} {:>9.2}", speed_up(runs, run));
    }
}

/// Files to work on, in a directory that goes with it.
struct Made(PathBuf);

impl Made {
    fn make(&self, count: u8, size: usize) -> io::Result<Vec<PathBuf>> {
        fs::create_dir_all(&self.0)?;
        (0..count).map(|number| self.file(number, size)).collect()
    }

    /// Its bytes are the same every time.
    fn file(&self, number: u8, size: usize) -> io::Result<PathBuf> {
        let path = self.0.join(format!("{number}.bin"));
        let piece: Vec<u8> = (0..=u8::MAX).map(|byte| byte.wrapping_mul(2 * number + 1)).collect();
        let mut file = io::BufWriter::new(File::create(&path)?);
        for _ in 0..size / piece.len() {
            file.write_all(&piece)?;
        }
        file.flush()?;
        Ok(path)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
