//! The files: `.svg` is the picture, everything else the trace.
//!
//! The rule: a file is there whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::story::Timeline;

impl Timeline {
    /// Writes the picture, if the name of the file ends in `.svg`, and otherwise the trace.
    ///
    /// The file is there whole or not at all: it is written beside its place, and then takes that. (Into a device or a pipe
    /// it is written at once.)
    ///
    /// # Errors
    ///
    /// What the system says if the file cannot be written.
    ///
    /// ```
    /// use concurrent_futures::timeline::Recorder;
    ///
    /// let timeline = Recorder::new().timeline();
    /// let directory = std::env::temp_dir();
    /// timeline.write(directory.join("empty.svg"))?;       // the picture
    /// timeline.write(directory.join("empty.json"))?;      // the trace
    /// # std::fs::remove_file(directory.join("empty.svg"))?;
    /// # std::fs::remove_file(directory.join("empty.json"))?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn write(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let path = path.as_ref();
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("svg")) {
            self.write_svg(path)
        } else {
            self.write_trace(path)
        }
    }

    /// Writes the picture, whatever the name of the file is; otherwise as [`write`](Timeline::write).
    ///
    /// # Errors
    ///
    /// What the system says if the file cannot be written.
    pub fn write_svg(&self, path: impl AsRef<Path>) -> io::Result<()> {
        whole(path.as_ref(), |out| writeln!(out, "{}", self.svg()))
    }

    /// Writes the trace, whatever the name of the file is; otherwise as [`write`](Timeline::write).
    ///
    /// # Errors
    ///
    /// What the system says if the file cannot be written.
    pub fn write_trace(&self, path: impl AsRef<Path>) -> io::Result<()> {
        whole(path.as_ref(), |out| self.trace(out))
    }
}

fn whole(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    // What a link points to is replaced, not the link.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if fs::metadata(path).is_ok_and(|file| !file.is_file() && !file.is_dir()) {
        return fill(File::options().write(true).open(path)?, write);
    }
    let beside = beside(path)?;
    let written =
        File::create(&beside).and_then(|file| fill(file, write)).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

fn fill(file: File, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut out = BufWriter::new(file);
    write(&mut out)?;
    out.flush()
}

/// A name in the same directory that nobody else has.
fn beside(path: &Path) -> io::Result<PathBuf> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "that is no name of a file"))?;
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    Ok(path.with_file_name(hidden))
}
