//! What is done on the workers: one picture in, its thumbnails out, all as bytes, because another machine has other files.
//!
//! Not here: who calls it (`client.rs`), who may (`worker.rs`). The rule: what it needs is in its argument, and what is
//! known of it afterwards is in its value.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use concurrent_futures::task;
use serde::{Deserialize, Serialize};

use crate::pictures::{self, Thumbnails};

/// A picture, and what is to be made of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Picture {
    /// Counted from 0.
    pub(crate) number: usize,
    pub(crate) name: String,
    /// Its bytes, or why they could not be read: that is an outcome like any other.
    pub(crate) file: Result<Vec<u8>, String>,
    /// Lengths of the longer side in pixels, in rising order.
    pub(crate) sizes: Vec<u32>,
}

/// What was made of it, and by whom.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Made {
    /// The name of the worker, and the process that did it there.
    pub(crate) worker: String,
    pub(crate) pid: u32,
    pub(crate) took: Duration,
    /// What the names of the thumbnails end with.
    pub(crate) extension: String,
    /// One file for each size, in the order of the sizes.
    pub(crate) files: Vec<Vec<u8>>,
}

/// What a worker says when it begins a picture: who started it reads that.
const BEGINS: &str = "begins ";

/// This runs on the workers.
pub(crate) fn thumbnails(picture: Picture) -> Result<Made, String> {
    let start = Instant::now();
    say(&format!("{BEGINS}{} {}", picture.number, picture.name));
    let file = picture.file?;
    let Thumbnails { extension, files, .. } =
        pictures::shrink(&file, &picture.sizes).map_err(|error| error.to_string())?;
    // Its threads, or its processes, have its name and a number.
    let own = task::worker().unwrap_or_default();
    let worker = own.rsplit_once('_').map_or(&*own, |(name, _)| name).to_owned();
    Ok(Made { worker, pid: std::process::id(), took: start.elapsed(), extension: extension.into(), files })
}

/// The number of the picture that is begun, if that is what was said.
pub(crate) fn begun(line: &str) -> Option<usize> {
    line.strip_prefix(BEGINS)?.split(' ').next()?.parse().ok()
}

/// Nobody may be listening any more; then the work goes on.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
