//! Who must hear that a future is over: blocked threads, mailboxes of `wait` and
//! `as_completed`, one async waker, callbacks.
//!
//! The rule: they are collected under the future's lock and woken or run outside it.

use std::sync::Arc;
use std::task::Waker;

use crate::error::Error;
use crate::primitives::Parker;
use crate::primitives::channel::Sender;
use crate::primitives::thread::ThreadId;

/// What `add_done_callback` was given.
pub(crate) type Callback<T> = Box<dyn FnOnce(Result<&T, &Error>) + Send>;

/// One party that waits; waking it runs no user code.
#[derive(Clone)]
pub(crate) enum Watcher {
    /// A thread inside `result`, `wait`, …
    Thread(Arc<Parker>),
    /// A call of `wait` or `as_completed`: the future puts its number into the mailbox.
    Mailbox(Sender<usize>, usize),
}

impl Watcher {
    fn wake(&self) {
        match self {
            Watcher::Thread(parker) => parker.wake(),
            // The receiver may be gone: then nobody wants to know.
            Watcher::Mailbox(mailbox, number) => drop(mailbox.send(*number)),
        }
    }

    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Watcher::Thread(one), Watcher::Thread(two)) => Arc::ptr_eq(one, two),
            (Watcher::Mailbox(one, a), Watcher::Mailbox(two, b)) => a == b && one.same_channel(two),
            _ => false,
        }
    }
}

/// All who are to be told of one future, and what goes with that. One word while there is nobody, which is the usual case.
pub(crate) struct Watchers<T>(Option<Box<Lists<T>>>);

struct Lists<T> {
    watchers: Vec<Watcher>,
    waker: Option<Waker>,
    callbacks: Vec<Callback<T>>,
    /// The thread whose callbacks look at the value.
    lent_to: Option<ThreadId>,
}

impl<T> Default for Watchers<T> {
    fn default() -> Self {
        Watchers(None)
    }
}

impl<T> Watchers<T> {
    fn lists(&mut self) -> &mut Lists<T> {
        self.0.get_or_insert_with(|| {
            Box::new(Lists { watchers: Vec::new(), waker: None, callbacks: Vec::new(), lent_to: None })
        })
    }

    pub(crate) fn add(&mut self, watcher: Watcher) {
        self.lists().watchers.push(watcher);
    }

    pub(crate) fn remove(&mut self, watcher: &Watcher) {
        if let Some(lists) = &mut self.0 {
            lists.watchers.retain(|other| !other.is(watcher));
        }
    }

    /// The latest waker wins. The one before it comes back, to be dropped outside the lock.
    pub(crate) fn set_waker(&mut self, waker: Waker) -> Option<Waker> {
        self.lists().waker.replace(waker)
    }

    /// Will waking run code of an executor, which is the user's choice?
    pub(crate) fn has_waker(&self) -> bool {
        self.0.as_ref().is_some_and(|lists| lists.waker.is_some())
    }

    pub(crate) fn add_callback(&mut self, callback: Callback<T>) {
        self.lists().callbacks.push(callback);
    }

    pub(crate) fn has_callbacks(&self) -> bool {
        self.0.as_ref().is_some_and(|lists| !lists.callbacks.is_empty())
    }

    pub(crate) fn take_callbacks(&mut self) -> Vec<Callback<T>> {
        self.0.as_mut().map(|lists| std::mem::take(&mut lists.callbacks)).unwrap_or_default()
    }

    pub(crate) fn set_lent_to(&mut self, thread: ThreadId) {
        self.lists().lent_to = Some(thread);
    }

    pub(crate) fn lent_to(&self) -> Option<ThreadId> {
        self.0.as_ref()?.lent_to
    }

    /// All of them, leaving nobody.
    pub(crate) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// Wakes everyone. Callbacks must have been taken before.
    pub(crate) fn wake(self) {
        let Some(lists) = self.0 else { return };
        debug_assert!(lists.callbacks.is_empty(), "callbacks run after the waiters have been woken");
        lists.watchers.iter().for_each(Watcher::wake);
        if let Some(waker) = lists.waker {
            // An executor's code, which is the user's choice: its panic is not ours to spread.
            crate::outcome::shielded(|| waker.wake());
        }
    }
}
