//! What is said at the end: the table, where the thumbnails are, whether the ways agree, and
//! which pictures could not be made.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use concurrent_futures::Error;

use crate::pictures::Made;
use crate::sheet;
use crate::ways::{Run, Way};

/// The results of all runs; every run has one for each picture, in the same order.
pub(crate) struct Report<'a> {
    pub(crate) pictures: &'a [PathBuf],
    pub(crate) sizes: &'a [u32],
    pub(crate) runs: &'a [Run],
}

impl Report<'_> {
    pub(crate) fn table(&self, out: &mut impl Write) -> io::Result<()> {
        let serial = self.runs.iter().find(|run| run.way == Way::Serial).map(|run| run.time.as_secs_f64());
        writeln!(out, "way        workers  pictures  seconds  pictures/s  speed-up")?;
        for run in self.runs {
            let (way, workers, made) = (run.way.name(), run.workers, run.made().count());
            let seconds = run.time.as_secs_f64();
            let rate = made as f64 / seconds;
            let speed_up = serial.map_or("-".into(), |serial| format!("{:.2}", serial / seconds));
            writeln!(out, "{way:9} {workers:>8} {made:>9} {seconds:>8.2} {rate:>11.1} {speed_up:>9}")?;
        }
        Ok(())
    }

    /// Writes the contact sheet, and says where everything is.
    pub(crate) fn places(
        &self,
        out: &mut impl Write,
        outputs: &[PathBuf],
        output: &Path,
    ) -> Result<(), Box<dyn StdError>> {
        writeln!(out)?;
        for output in outputs {
            writeln!(out, "thumbnails     {}", output.display())?;
        }
        // The smallest that fills its place on the sheet; the largest, if none does.
        let size = self.sizes.iter().position(|&size| size >= sheet::WINDOW).unwrap_or(self.sizes.len() - 1);
        let entry = |(picture, made): (&PathBuf, &Made)| sheet::Entry {
            name: name(picture),
            dimensions: made.dimensions,
            thumbnail: PathBuf::from(&made.thumbnails[size]),
        };
        let results = self.pictures.iter().zip(&self.runs[0].results);
        let entries: Vec<_> =
            results.filter_map(|(picture, result)| Some(entry((picture, result.as_ref().ok()?)))).collect();
        if !entries.is_empty() {
            let path = output.join("contact-sheet.png");
            sheet::write(&path, &entries).map_err(|error| format!("{}: {error}", path.display()))?;
            let left_out = entries.len().saturating_sub(sheet::MOST);
            let part = if left_out > 0 { format!(" (without the last {left_out})") } else { String::new() };
            writeln!(out, "contact sheet  {}{part}", path.display())?;
        }
        Ok(())
    }

    /// Compares the files of all runs, byte by byte; false if any differs.
    pub(crate) fn comparison(&self, out: &mut impl Write) -> io::Result<bool> {
        let (mut compared, mut different) = (0, 0);
        for picture in 0..self.pictures.len() {
            // One that a way could not make is told of elsewhere.
            let made: Result<Vec<&Made>, _> =
                self.runs.iter().map(|run| run.results[picture].as_ref()).collect();
            let Ok([first, others @ ..]) = made.as_deref() else { continue };
            for (at, thumbnail) in first.thumbnails.iter().enumerate() {
                let bytes = fs::read(thumbnail)?;
                compared += 1;
                for other in others {
                    if fs::read(&other.thumbnails[at])? != bytes {
                        different += 1;
                        writeln!(
                            out,
                            "{} differs from {}",
                            other.thumbnails[at].display(),
                            thumbnail.display()
                        )?;
                    }
                }
            }
        }
        if self.runs.len() > 1 && compared > 0 && different == 0 {
            writeln!(out, "the {compared} thumbnails of all {} ways are byte-identical", self.runs.len())?;
        }
        Ok(different == 0)
    }

    /// Names each picture that was not made, and why; true if there is none.
    pub(crate) fn causes(&self, out: &mut impl Write) -> io::Result<bool> {
        let mut causes: BTreeMap<(&PathBuf, String), Vec<&str>> = BTreeMap::new();
        for run in self.runs {
            for (picture, result) in self.pictures.iter().zip(&run.results) {
                if let Err(error) = result {
                    causes.entry((picture, cause(error))).or_default().push(run.way.name());
                }
            }
        }
        for ((picture, cause), ways) in &causes {
            // Said once, if it was the same every way.
            let some = ways.len() < self.runs.len();
            let ways = if some { format!(" ({})", ways.join(", ")) } else { String::new() };
            writeln!(out, "not made: {}{ways}: {cause}", name(picture))?;
        }
        Ok(causes.is_empty())
    }
}

/// What `resize` returned, in its own words; anything else (a panic, a dead worker) in the library's.
fn cause(error: &Error) -> String {
    match error {
        Error::Raised { error, .. } => error.to_string(),
        other => other.to_string(),
    }
}

fn name(picture: &Path) -> String {
    picture.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
