//! What an executor and its workers must agree on, and what each of them may say of its connection.
//!
//! Not here: what only one of them has (`executor.rs`, `worker.rs`). The rule: whatever can be refused before anybody
//! connects is refused then, with an error that names it.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};

use super::link::{Address, Tls};
use crate::error::Error;

/// The queue, where none is named.
pub(super) const QUEUE: &str = "concurrent-futures";

/// The priority of messages of which nothing is said. What is above it is "high" for the quorum queues of RabbitMQ since 4.0,
/// which know only that.
pub(super) const USUAL: u8 = 4;

/// The highest: queues that are made for priorities know them from 0 to this one.
pub(super) const HIGHEST: u8 = 9;

/// The longest message, in bytes, where nothing else is said: what RabbitMQ takes by default since 4.0.
pub(super) const LONGEST: usize = 16 << 20;

/// A name has so many bytes at the most; AMQP has room for 255, and we put something behind it.
const LONGEST_NAME: usize = 200;

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) queue: String,
    pub(super) persistent: bool,
    pub(super) quorum: bool,
    pub(super) priorities: bool,
    pub(super) tls: Tls,
    pub(super) connect_timeout: Duration,
    pub(super) heartbeat: Duration,
    pub(super) max_message_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            queue: QUEUE.into(),
            persistent: true,
            quorum: true,
            priorities: false,
            tls: Tls::default(),
            connect_timeout: Duration::from_secs(10),
            heartbeat: Duration::from_secs(10),
            max_message_bytes: LONGEST,
        }
    }
}

impl Settings {
    /// `name`: of the connection.
    pub(super) fn address(&self, url: &str, name: String) -> Result<Address, Error> {
        if self.queue.is_empty() || self.queue.len() > LONGEST_NAME || self.queue.starts_with("amq.") {
            return Err(Error::invalid(
                format!("`{}` cannot be the name of a queue", self.queue),
                format!("give 1 to {LONGEST_NAME} bytes that do not begin with `amq.`"),
            ));
        }
        if self.quorum && !self.persistent {
            return Err(Error::invalid(
                "a quorum queue is always persistent",
                "say `quorum(false)` beside `persistent(false)`",
            ));
        }
        if self.quorum && self.priorities {
            return Err(Error::invalid(
                "a quorum queue cannot be made for priorities",
                "say `quorum(false)` beside `priorities(true)`",
            ));
        }
        for (name, time) in [("connect_timeout", self.connect_timeout), ("heartbeat", self.heartbeat)] {
            if time.is_zero() {
                return Err(Error::invalid(format!("{name} is 0"), "give some time, or leave it out"));
            }
        }
        Address::new(url, &self.tls, name, self.connect_timeout, self.heartbeat)
    }

    /// How the queue of calls is made.
    pub(super) fn declaration(&self) -> (QueueDeclareOptions, FieldTable) {
        let mut arguments = FieldTable::default();
        if self.quorum {
            arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        }
        if self.priorities {
            arguments.insert("x-max-priority".into(), AMQPValue::ShortShortUInt(HIGHEST));
        }
        (QueueDeclareOptions { durable: self.persistent, ..Default::default() }, arguments)
    }

    /// Why a message of that length is not sent.
    pub(super) fn too_long(&self, length: usize) -> Option<String> {
        (length > self.max_message_bytes).then(|| {
            format!(
                "with what is said about it, it has {length} bytes, the limit is {} (`max_message_bytes`; and the broker's \
                 own, `max_message_size`); put it where both sides can reach it, and send its name",
                self.max_message_bytes
            )
        })
    }
}

/// Why a message is not sent that the broker did not take.
pub(super) fn refused_as_too_long(reason: &str) -> String {
    format!("the broker does not take it: {reason} (`max_message_bytes` is to be no more than that)")
}

/// A name that nobody else has: 128 bits that the system drew.
pub(super) fn unique() -> String {
    let draw = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", draw(), draw())
}

/// The settings that both builders have.
macro_rules! common_settings {
    () => {
        /// The queue of calls. Executors and workers of one queue belong together. Default: `concurrent-futures`.
        ///
        /// Whoever comes first makes it, as its options say ([`persistent`](Self::persistent), [`quorum`](Self::quorum),
        /// [`priorities`](Self::priorities)); whoever comes later must say the same, or is refused. But a user that the broker
        /// does not let make queues takes the one that there is, as it is.
        ///
        /// ```no_run
        /// # use concurrent_futures::{AmqpExecutor};
        /// let pool = AmqpExecutor::builder().queue("thumbnails").connect("amqp://localhost")?;
        /// # Ok::<(), concurrent_futures::Error>(())
        /// ```
        pub fn queue(mut self, name: impl Into<String>) -> Self {
            self.settings.queue = name.into();
            self
        }

        /// Are calls and results to outlive a restart of the broker? Default: yes. Without, they cost the broker no disk,
        /// and after a restart the executor sends what it has not heard of again.
        ///
        /// ```no_run
        /// # use concurrent_futures::{AmqpExecutor};
        /// let pool = AmqpExecutor::builder().persistent(false).quorum(false).connect("amqp://localhost")?;
        /// # Ok::<(), concurrent_futures::Error>(())
        /// ```
        pub fn persistent(mut self, yes: bool) -> Self {
            self.settings.persistent = yes;
            self
        }

        /// Is the queue to be a [quorum queue](https://www.rabbitmq.com/docs/quorum-queues), on several nodes of a cluster of
        /// brokers? Default: yes. Brokers other than RabbitMQ have none.
        ///
        /// ```no_run
        /// # use concurrent_futures::{AmqpExecutor};
        /// let pool = AmqpExecutor::builder().quorum(false).connect("amqp://localhost")?;
        /// # Ok::<(), concurrent_futures::Error>(())
        /// ```
        pub fn quorum(mut self, yes: bool) -> Self {
            self.settings.quorum = yes;
            self
        }

        /// Is the queue to hand out calls by their [priority](crate::TaskOptions::priority)? Default: no. Priorities from -4 to
        /// 5 are told apart; those beyond count as these.
        ///
        /// Without it they hold among the calls of one executor that are not sent yet, which is all but a
        /// [`window`](crate::AmqpBuilder::window) of them. Only queues that are not [quorum queues](Self::quorum) have it; the
        /// quorum queues of RabbitMQ since 4.0 prefer what is above 0 in any case.
        ///
        /// ```no_run
        /// # use concurrent_futures::{AmqpExecutor};
        /// let pool = AmqpExecutor::builder().quorum(false).priorities(true).connect("amqp://localhost")?;
        /// # Ok::<(), concurrent_futures::Error>(())
        /// ```
        pub fn priorities(mut self, yes: bool) -> Self {
            self.settings.priorities = yes;
            self
        }

        /// Whom to trust, where the URL begins with `amqps`. Default: whom the system trusts.
        ///
        /// ```no_run
        /// # use concurrent_futures::{AmqpExecutor, Tls};
        /// let tls = Tls::new().roots("/etc/rabbitmq/ca.pem");
        /// let pool = AmqpExecutor::builder().tls(tls).connect("amqps://broker.example")?;
        /// # Ok::<(), concurrent_futures::Error>(())
        /// ```
        pub fn tls(mut self, tls: Tls) -> Self {
            self.settings.tls = tls;
            self
        }

        /// How long one attempt to connect may take, and any answer of the broker. Default: 10 s.
        ///
        /// ```no_run
        /// # use std::time::Duration;
        /// # use concurrent_futures::AmqpExecutor;
        /// let pool = AmqpExecutor::builder().connect_timeout(Duration::from_secs(3)).connect("amqp://localhost")?;
        /// # Ok::<(), concurrent_futures::Error>(())
        /// ```
        pub fn connect_timeout(mut self, limit: Duration) -> Self {
            self.settings.connect_timeout = limit;
            self
        }

        /// How often either side shows that it is there, if the URL does not say (`?heartbeat=`). Twice as long without a
        /// sign, and the connection counts as lost. In whole seconds. Default: 10 s.
        ///
        /// ```no_run
        /// # use std::time::Duration;
        /// # use concurrent_futures::AmqpExecutor;
        /// let pool = AmqpExecutor::builder().heartbeat(Duration::from_secs(60)).connect("amqp://localhost")?;
        /// # Ok::<(), concurrent_futures::Error>(())
        /// ```
        pub fn heartbeat(mut self, every: Duration) -> Self {
            self.settings.heartbeat = every;
            self
        }

        /// The longest message, in bytes. Default: 16 MiB, which is what RabbitMQ takes by default since 4.0.
        ///
        /// ```no_run
        /// # use concurrent_futures::{AmqpExecutor};
        /// let pool = AmqpExecutor::builder().max_message_bytes(128 << 20).connect("amqp://localhost")?;
        /// # Ok::<(), concurrent_futures::Error>(())
        /// ```
        pub fn max_message_bytes(mut self, bytes: usize) -> Self {
            self.settings.max_message_bytes = bytes;
            self
        }
    };
}

pub(super) use common_settings;
