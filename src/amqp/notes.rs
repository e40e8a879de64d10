//! What an AMQP worker tells whoever runs it, by the feature `tracing`: that the broker is away, that it is back, that it
//! stops.
//!
//! Not here: what it tells executors. The rule: a change is told once; what only goes on is DEBUG.

use std::time::Duration;

use crate::error::Error;

pub(super) struct Notes {
    #[cfg(feature = "tracing")]
    inner: told::Inner,
}

impl Notes {
    /// Of the worker of that name. They go where events of this thread go.
    pub(super) fn new(worker: &str, queue: &str) -> Self {
        #[cfg(feature = "tracing")]
        return Notes { inner: told::Inner::new(worker, queue) };
        #[cfg(not(feature = "tracing"))]
        {
            let _ = (worker, queue);
            Notes {}
        }
    }

    /// There is a session; before, there was none for so long.
    pub(super) fn up(&self, away: Option<Duration>) {
        #[cfg(feature = "tracing")]
        self.inner.up(away);
        let _ = away;
    }

    /// There is none.
    pub(super) fn away(&self, error: &Error) {
        #[cfg(feature = "tracing")]
        self.inner.away(error);
        let _ = error;
    }

    /// It stops, when so many calls have ended.
    pub(super) fn stopping(&self, running: usize, broken: Option<&Error>) {
        #[cfg(feature = "tracing")]
        self.inner.stopping(running, broken);
        let _ = (running, broken);
    }
}

#[cfg(feature = "tracing")]
mod told {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use tracing::{debug, error, info, warn};

    use crate::error::Error;
    use crate::spans::{Home, TARGET};

    pub(super) struct Inner {
        worker: String,
        queue: String,
        is_away: AtomicBool,
        home: Home,
    }

    impl Inner {
        pub(super) fn new(worker: &str, queue: &str) -> Self {
            let (worker, queue, is_away) = (worker.into(), queue.into(), AtomicBool::new(false));
            Inner { worker, queue, is_away, home: Home::of_this_thread() }
        }

        pub(super) fn up(&self, away: Option<Duration>) {
            let (worker, queue) = (&*self.worker, &*self.queue);
            self.is_away.store(false, Ordering::Relaxed);
            self.home.with(|| match away {
                Some(away) => info!(target: TARGET, worker, queue, ?away, "the broker is back"),
                None => info!(target: TARGET, worker, queue, "connected to the broker"),
            });
        }

        pub(super) fn away(&self, error: &Error) {
            let (worker, queue) = (&*self.worker, &*self.queue);
            let was_away = self.is_away.swap(true, Ordering::Relaxed);
            self.home.with(|| {
                if was_away {
                    debug!(target: TARGET, worker, queue, %error, "the broker is still away");
                } else {
                    warn!(target: TARGET, worker, queue, %error, "the broker is away; trying to come back");
                }
            });
        }

        pub(super) fn stopping(&self, running: usize, broken: Option<&Error>) {
            let (worker, queue) = (&*self.worker, &*self.queue);
            self.home.with(|| match broken {
                Some(error) => error!(target: TARGET, worker, queue, running, %error, "the worker cannot make calls any more"),
                None => info!(target: TARGET, worker, queue, running, "stopping; what runs is finished"),
            });
        }
    }
}

#[cfg(all(test, feature = "tracing"))]
mod tests {
    use std::fmt;
    use std::sync::{Arc, Mutex};

    use tracing::dispatcher::with_default;
    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Dispatch, Event, Metadata, Subscriber};

    use super::*;

    /// Keeps the level and the words of each event.
    #[derive(Clone, Default)]
    struct Heard(Arc<Mutex<Vec<String>>>);

    struct Words(String);

    impl Visit for Words {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            self.0 += &format!(" {field}={value:?}");
        }
    }

    impl Subscriber for Heard {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &Event<'_>) {
            let mut words = Words(event.metadata().level().to_string());
            event.record(&mut words);
            self.0.lock().unwrap().push(words.0);
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn a_change_is_told_once() {
        let heard = Heard::default();
        let dispatch = Dispatch::new(heard.clone());
        let notes = with_default(&dispatch, || Notes::new("a worker", "a queue"));
        let gone = Error::Broker { broker: "amqp://nobody".into(), reason: "it is gone".into() };
        // From the thread that talks with the broker.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                notes.up(None);
                notes.away(&gone);
                notes.away(&gone);
                notes.up(Some(Duration::from_secs(7)));
                notes.away(&gone);
                notes.stopping(2, None);
                notes.stopping(0, Some(&gone));
            });
        });
        let heard = heard.0.lock().unwrap().clone();
        let levels: Vec<_> = heard.iter().map(|words| words.split(' ').next().unwrap()).collect();
        assert_eq!(levels, ["INFO", "WARN", "DEBUG", "INFO", "WARN", "INFO", "ERROR"], "{heard:?}");
        assert!(heard.iter().all(|words| words.contains("worker=\"a worker\"")), "{heard:?}");
        assert!(heard[1].contains("it is gone") && heard[3].contains("7s"), "{heard:?}");
    }
}
