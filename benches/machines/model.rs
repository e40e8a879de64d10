//! How fast many machines are together, by arithmetic: what limits them, and how much of their time they work.
//!
//! Every call goes the same round: client → queue of tasks → worker → queue of replies → client. Whatever it passes takes its
//! time for each message, one after the other; what is slowest bounds the rate. And so many calls are on the round at most:
//! by Little's law their number is the rate times how long a round takes.
//!
//! ```text
//!   rate = least of   1 / client                          one client's busiest thread
//!                     1 / broker                          what the broker does for a call, both its messages
//!                     link / (argument + value)           the broker's network, each way
//!                     workers / worker                    a worker's thread that talks with the broker
//!                     workers × threads / length          the work itself
//!                     window / (length + round)           calls in hand
//!                     workers × prefetch / (length + back)  calls at a worker, until their acknowledgement is at the broker
//!                                                           and the next call is here
//! ```
//!
//! Not here: waiting in queues; that is what `simulation.rs` adds, and the tests say how much it is. The rule: times in
//! seconds, sizes in bytes, and every figure of a machine is in [`Costs`].

#![allow(dead_code, reason = "bench, page and tests use a part of it each")]

/// What a message costs, each way and at every place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Costs {
    /// The client's busiest thread, for a call, and for a byte of it.
    pub(crate) client: f64,
    pub(crate) client_byte: f64,
    /// The broker, for a call: its message and its reply, in, out, acknowledged.
    pub(crate) broker: f64,
    pub(crate) broker_byte: f64,
    /// A worker's thread that talks with the broker.
    pub(crate) worker: f64,
    pub(crate) worker_byte: f64,
    /// From one machine to another, one way.
    pub(crate) delay: f64,
    /// Until the broker hands on what came: it is on its disk, and on those of most other nodes.
    pub(crate) commit: f64,
    /// Until the broker answers for a reply.
    pub(crate) confirm: f64,
    /// The broker's network, bytes a second, each way.
    pub(crate) link: f64,
}

/// A number of machines, and what they do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site {
    pub(crate) workers: usize,
    /// Calls that each makes at a time.
    pub(crate) threads: usize,
    /// Of one item, in seconds.
    pub(crate) length: f64,
    /// Of one item, in bytes.
    pub(crate) argument: f64,
    pub(crate) value: f64,
    /// Items of a message.
    pub(crate) chunk: usize,
    /// Calls in hand, if somebody has said so.
    pub(crate) window: Option<usize>,
    pub(crate) costs: Costs,
}

/// What bounds the rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    Client,
    Broker,
    Link,
    Worker,
    Work,
    Window,
    Prefetch,
}

impl Limit {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Limit::Client => "client",
            Limit::Broker => "broker",
            Limit::Link => "network",
            Limit::Worker => "worker's I/O",
            Limit::Work => "the work",
            Limit::Window => "window",
            Limit::Prefetch => "prefetch",
        }
    }
}

/// What a call and its reply are beside argument and value: properties, head, frames.
const AROUND: f64 = 400.0;

impl Site {
    /// All calls that are made at a time.
    pub(crate) fn slots(&self) -> usize {
        self.workers * self.threads
    }

    /// As `src/amqp` has it: what runs, and as many again that wait at the worker.
    pub(crate) fn prefetch(&self) -> usize {
        self.threads * 2
    }

    /// As `src/amqp` has it, when it has heard of the workers.
    pub(crate) fn in_hand(&self) -> usize {
        self.window.unwrap_or((self.slots() * 2).max(16))
    }

    /// Of a message.
    pub(crate) fn call(&self) -> Call {
        let items = self.chunk as f64;
        let bytes = (self.argument + self.value) * items + AROUND;
        let costs = &self.costs;
        Call {
            length: self.length * items,
            client: costs.client + costs.client_byte * bytes,
            broker: costs.broker + costs.broker_byte * bytes,
            link: bytes / costs.link,
            worker: costs.worker + costs.worker_byte * bytes,
        }
    }

    /// Calls a second, and what bounds them.
    pub(crate) fn rate(&self) -> (f64, Limit) {
        let (call, costs) = (self.call(), &self.costs);
        let workers = self.workers as f64;
        let back =
            call.length + call.worker + call.link + call.broker / 2.0 + costs.confirm + 4.0 * costs.delay;
        let bounds = [
            (1.0 / call.client, Limit::Client),
            (1.0 / call.broker, Limit::Broker),
            (1.0 / call.link, Limit::Link),
            (workers / call.worker, Limit::Worker),
            (self.slots() as f64 / call.length, Limit::Work),
            (self.in_hand() as f64 / self.round(), Limit::Window),
            (workers * self.prefetch() as f64 / back, Limit::Prefetch),
        ];
        bounds.into_iter().min_by(|one, two| one.0.total_cmp(&two.0)).expect("there are some")
    }

    /// How much of their time the threads work.
    pub(crate) fn efficiency(&self) -> f64 {
        self.rate().0 * self.call().length / self.slots() as f64
    }

    /// Items a second that would keep every thread at work.
    pub(crate) fn needed(&self) -> f64 {
        self.slots() as f64 / self.length
    }

    /// Calls that must be in hand so that every thread is at work, by Little's law.
    pub(crate) fn window_needed(&self) -> f64 {
        self.slots() as f64 / self.call().length * self.round()
    }

    /// How long a call takes that waits for nothing.
    pub(crate) fn round(&self) -> f64 {
        let (call, costs) = (self.call(), &self.costs);
        // The bytes of both messages go into the broker, and out of it.
        call.length
            + call.client
            + call.broker
            + 2.0 * call.link
            + call.worker
            + costs.commit
            + 4.0 * costs.delay
    }

    /// So many brokers, each with executors and a queue of its own, that share what is too much for one; where a window or
    /// a prefetch is what limits, they do not help.
    pub(crate) fn brokers_for(&self, efficiency: f64) -> f64 {
        let call = self.call();
        let each = (1.0 / call.client).min(1.0 / call.broker).min(1.0 / call.link);
        (self.slots() as f64 / call.length * efficiency / each).ceil()
    }

    /// The fewest items a message, of 1, 2, 5, 10, 20, …, that keep so much of the threads at work; `None`: none does, or
    /// the message is longer than a broker takes.
    pub(crate) fn chunk_for(&self, efficiency: f64) -> Option<usize> {
        let steps = (0..6).flat_map(|power| [1, 2, 5].map(|step| step * 10_usize.pow(power)));
        let fits = |chunk: usize| {
            let site = Site { chunk, ..*self };
            let longest = self.argument.max(self.value) * chunk as f64 + AROUND;
            longest <= LONGEST && site.efficiency() >= efficiency
        };
        steps.into_iter().find(|&chunk| fits(chunk))
    }
}

/// The longest message that RabbitMQ takes by default, since 4.0.
const LONGEST: f64 = (16 << 20) as f64;

/// How long a message is at each place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) length: f64,
    pub(crate) client: f64,
    pub(crate) broker: f64,
    pub(crate) link: f64,
    pub(crate) worker: f64,
}

/// The machine of `benches/RESULTS.md`, as a broker alone: quorum queues, a disk, one node. CPU time as `cargo bench
/// --features amqp --bench amqp -- --only a5 --width 64` tells it, where messages come many at a time; the broker's as if
/// it had one core, for one queue is one process of it. Between the machines, a switch and a gigabit.
pub(crate) const MEASURED: Costs = Costs {
    client: 8e-6,
    client_byte: 0.5e-9,
    broker: 100e-6,
    broker_byte: 2.7e-9,
    worker: 40e-6,
    worker_byte: 0.8e-9,
    delay: 200e-6,
    commit: 1.4e-3,
    confirm: 2e-3,
    link: 117e6,
};

/// The same machine with client and workers on it as well: whatever any of them does takes time of the same two cores, and
/// with few threads messages come one by one, which costs all of them more (`a5` without `--width`).
pub(crate) const SHARED: Costs =
    Costs { client: 35e-6, broker: 280e-6, worker: 43e-6, delay: 0.0, link: f64::INFINITY, ..MEASURED };
