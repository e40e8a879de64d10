//! Who ran: every call notes, before it does anything else, that it does, in the file of its pool's life.
//!
//! Not here: what follows from it (`verdict.rs`). The rule: a mark is 16 bytes, appended at once. So marks of many
//! processes do not mix, and the death of one in the middle of it leaves a whole mark or none.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

/// In the environment of a worker process: its file.
pub(crate) const VARIABLE: &str = "STORM_MARKS";

/// The files of those lives that have calls in this process.
static HERE: RwLock<Option<HashMap<u32, Arc<File>>>> = RwLock::new(None);

/// One run of one attempt of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    pub(crate) id: u32,
    pub(crate) attempt: u32,
    pub(crate) pid: u32,
}

/// Behind each mark, mixed with its life.
const SEAL: u32 = 0x5707_2133;

/// The file of one life.
pub(crate) struct Marks {
    life: u32,
    path: PathBuf,
}

impl Marks {
    pub(crate) fn new(directory: &Path, life: u32) -> io::Result<Self> {
        let path = directory.join(life.to_string());
        let file = appending(&path)?;
        let mut here = HERE.write().unwrap_or_else(PoisonError::into_inner);
        here.get_or_insert_default().insert(life, Arc::new(file));
        Ok(Marks { life, path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How many there are now.
    pub(crate) fn count(&self) -> u64 {
        self.path.metadata().map_or(0, |file| file.len() / 16)
    }

    /// All of them, by their calls, in the order in which they were made. An error tells what is not a mark.
    pub(crate) fn read(&self) -> Result<Vec<Mark>, String> {
        let bytes = std::fs::read(&self.path).map_err(|error| error.to_string())?;
        let (marks, rest) = bytes.as_chunks::<16>();
        if !rest.is_empty() {
            return Err(format!("{} bytes behind the last mark", rest.len()));
        }
        let mut marks = marks
            .iter()
            .map(|mark| {
                let word =
                    |at: usize| u32::from_le_bytes([mark[at], mark[at + 1], mark[at + 2], mark[at + 3]]);
                let whole = word(12) == SEAL ^ self.life;
                whole
                    .then(|| Mark { id: word(0), attempt: word(4), pid: word(8) })
                    .ok_or_else(|| format!("{mark:?} is no mark of life {}", self.life))
            })
            .collect::<Result<Vec<_>, _>>()?;
        marks.sort_by_key(|mark| mark.id);
        Ok(marks)
    }
}

impl Drop for Marks {
    fn drop(&mut self) {
        let mut here = HERE.write().unwrap_or_else(PoisonError::into_inner);
        here.get_or_insert_default().remove(&self.life);
        let _ = std::fs::remove_file(&self.path);
    }
}

fn appending(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// This call runs. One that cannot say so must not run on as if it had.
pub(crate) fn note(life: u32, id: u32, attempt: u32) {
    static OF_THIS_WORKER: OnceLock<File> = OnceLock::new();
    let words = [id, attempt, std::process::id(), SEAL ^ life];
    let mut mark = [0; 16];
    mark.chunks_mut(4).zip(words).for_each(|(bytes, word)| bytes.copy_from_slice(&word.to_le_bytes()));
    let written = match file_here(life) {
        Some(file) => (&*file).write_all(&mark),
        None => {
            let file = OF_THIS_WORKER.get_or_init(|| {
                let path = std::env::var_os(VARIABLE).expect("a worker knows its file");
                appending(Path::new(&path)).expect("the file of marks is there")
            });
            (&*file).write_all(&mark)
        }
    };
    written.expect("a mark can be written");
}

fn file_here(life: u32) -> Option<Arc<File>> {
    HERE.read().unwrap_or_else(PoisonError::into_inner).as_ref()?.get(&life).cloned()
}
