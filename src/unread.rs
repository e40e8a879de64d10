//! Errors that nobody read: where they go instead of nowhere.
//!
//! Not here: what "read" means, which `future/cell.rs` keeps track of.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::error::Error;
use crate::outcome::shielded;

type Hook = Arc<dyn Fn(&Error) + Send + Sync>;

/// `None`: stderr.
static HOOK: RwLock<Option<Hook>> = RwLock::new(None);

/// Says where errors go that nobody reads. Without it, the first 20 of a process are printed to
/// stderr, a line each.
///
/// An error is read when it was told by `result`, `exception`, `.await`, … or to a callback. When
/// the last handle of a future goes and its error was not read, or the call of a future that was
/// dropped ends with an error, `hook` is called with it, in the thread where that happens. Being
/// cancelled is no error. A [`Map`](crate::Map) that was iterated has been read, as far as the
/// caller liked; of one that was not, each task (a chunk of items) tells its first error, unless
/// options that look at every item (`on_item_done`, `fail_fast`) have read it.
///
/// To say that the error of a future does not matter, add a callback that does nothing.
///
/// There is one hook a process; a worker process has its own, which an initializer can set. A
/// panic in the hook is caught. It must not wait for a call of the pool whose worker it runs in.
///
/// ```
/// use std::sync::mpsc;
/// use concurrent_futures::{ThreadPoolExecutor, set_unread_error_hook};
///
/// let (tell, told) = mpsc::channel();
/// set_unread_error_hook(move |error| tell.send(error.to_string()).unwrap());
///
/// let pool = ThreadPoolExecutor::new(1)?;
/// drop(pool.try_submit(|path| std::fs::remove_file(path), "/no/such/file"));      // fire and forget
/// assert!(told.recv().unwrap().contains("returned an error"));
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
pub fn set_unread_error_hook(hook: impl Fn(&Error) + Send + Sync + 'static) {
    let before = HOOK.write().unwrap_or_else(PoisonError::into_inner).replace(Arc::new(hook));
    // The user's, so outside the lock.
    drop(before);
}

/// Tells of an outcome that nobody looked at, if it is an error. User code: no lock may be held.
pub(crate) fn report(error: Option<&Error>) {
    let Some(error) = error.filter(|error| !matches!(error, Error::Cancelled { .. })) else { return };
    let hook = HOOK.read().unwrap_or_else(PoisonError::into_inner).clone();
    shielded(|| match hook {
        Some(hook) => hook(error),
        None => print(error),
    });
}

/// How many are printed in the life of a process: who loses thousands learns it from these.
const PRINTED: usize = 20;

fn print(error: &Error) {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let before = COUNT.fetch_add(1, Ordering::Relaxed);
    if before >= PRINTED {
        return;
    }
    let mut line = format!("concurrent-futures: nobody read this error: {error}\n");
    if before + 1 == PRINTED {
        line += "concurrent-futures: no more of these are printed; see `set_unread_error_hook`\n";
    }
    // One write, so that lines of several threads and processes do not mix. If there is no
    // stderr, nobody can be told.
    let _ = std::io::stderr().write_all(line.as_bytes());
}
