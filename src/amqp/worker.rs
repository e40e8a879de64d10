//! [`AmqpWorker`]: makes the calls of executors on other machines, those on its list and no others.
//!
//! Not here: how it takes them and gives them back (`shift.rs`). The rule: a name that is not on the list is never called.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use super::link::{Address, Tls};
use super::message::{Ended, TaskHead, Way};
use super::settings::{Settings, common_settings, unique};
use super::shift::{Shift, Stop};
use crate::error::Error;
use crate::executor::Executor;
use crate::pool::usable_cpus;
use crate::portable::{self, Each, Fallible, Function, Named, Once, Plain, Portable};
use crate::process::ProcessPoolBuilder;
use crate::thread::ThreadPoolBuilder;
use crate::wire::message::FunctionRef;

/// Makes calls that [`AmqpExecutor`](crate::AmqpExecutor)s on other machines submit.
#[must_use = "it does nothing until it runs"]
pub struct AmqpWorker {
    address: Address,
    settings: Settings,
    list: List,
    name: String,
    width: usize,
    processes: bool,
    delivery_limit: u32,
    stop: Stop,
}

impl AmqpWorker {
    /// For the broker at `url`, `amqp://user:password@host:5672/vhost`, or `amqps://…` for TLS.
    pub fn connect(url: &str) -> Result<Self, Error> {
        Self::builder().connect(url)
    }

    /// One that is set up otherwise.
    pub fn builder() -> AmqpWorkerBuilder {
        AmqpWorkerBuilder::default()
    }

    /// Puts a function on the list. Executors call it by the path that it has in its crate.
    pub fn register<F, A, R>(mut self, function: F) -> Self
    where
        F: Fn(A) -> R + Copy + Send + 'static,
        A: Portable,
        R: Portable,
    {
        self.list.add(Plain::new(function));
        self
    }

    /// The same for one that is called by `try_submit` and `try_map`.
    pub fn try_register<F, A, R, E>(mut self, function: F) -> Self
    where
        F: Fn(A) -> Result<R, E> + Copy + Send + 'static,
        A: Portable,
        R: Portable,
        E: Into<Box<dyn StdError + Send + Sync>> + 'static,
    {
        self.list.add(Fallible::new(function));
        self
    }

    /// To stop it from elsewhere.
    #[must_use]
    pub fn stopper(&self) -> AmqpStopper {
        AmqpStopper(self.stop.clone())
    }

    /// Makes calls until it is told to stop: by SIGTERM or SIGINT, or by a [stopper](Self::stopper). What runs then is
    /// finished, what was taken and has not begun is given back.
    pub fn run(self) -> Result<(), Error> {
        let pool: Box<dyn Executor> = if self.processes {
            Box::new(ProcessPoolBuilder::default().max_workers(self.width).name(&self.name).build()?)
        } else {
            Box::new(
                ThreadPoolBuilder::default()
                    .max_workers(self.width)
                    .thread_name_prefix(&self.name)
                    .build()?,
            )
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::spawn("the runtime that talks with the broker", error))?;
        let shift = Shift {
            address: self.address,
            settings: self.settings,
            list: self.list,
            name: self.name,
            width: self.width,
            has_limits: self.processes,
            delivery_limit: self.delivery_limit,
            stop: self.stop,
            pool,
        };
        runtime.block_on(shift.work())
    }
}

impl fmt::Debug for AmqpWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AmqpWorker")
            .field("name", &self.name)
            .field("queue", &self.settings.queue)
            .field("functions", &self.list.names())
            .finish_non_exhaustive()
    }
}

/// Stops an [`AmqpWorker`] that runs in another thread.
#[derive(Clone, Debug)]
pub struct AmqpStopper(Stop);

impl AmqpStopper {
    /// It is to finish what it is doing, and return. Does not wait.
    pub fn stop(&self) {
        self.0.stop();
    }
}

/// The functions that may be called, by name.
#[derive(Default)]
pub(super) struct List(BTreeMap<&'static str, Listed>);

struct Listed {
    shape: u64,
    fallible: bool,
    /// Why it cannot be called at all: it is of a shared library.
    functions: Result<[FunctionRef; 2], String>,
}

impl List {
    fn add<Fun: Function<Argument: Portable, Return: Portable>>(&mut self, function: Fun) {
        let Named { function: name, shape, fallible, .. } = Named::of::<Fun>(false);
        let functions = portable::of(&Once(function))
            .and_then(|once| portable::of(&Each(function)).map(|each| [once, each]));
        self.0.insert(name, Listed { shape, fallible, functions });
    }

    fn names(&self) -> Vec<&'static str> {
        self.0.keys().copied().collect()
    }

    /// What is to be called, or what to answer instead.
    pub(super) fn find(&self, head: &TaskHead) -> Result<FunctionRef, Ended> {
        let Some(listed) = self.0.get(head.function.as_str()) else {
            return Err(Ended::Unknown { known: self.names().iter().map(ToString::to_string).collect() });
        };
        let Way { each, fallible } = head.way;
        let mismatched = |reason: &str| Err(Ended::Mismatched { reason: reason.into() });
        if listed.fallible != fallible {
            return mismatched(if fallible {
                "it is registered by `register`, and called by `try_submit` or `try_map`: use `try_register`"
            } else {
                "it is registered by `try_register`, and called by `submit` or `map`: use `register`"
            });
        }
        if listed.shape != head.shape {
            return mismatched(
                "its argument or its value has another shape there (fields, variants, types): build both programs from the same \
                 sources",
            );
        }
        let [once, each_of] =
            listed.functions.as_ref().map_err(|reason| Ended::Mismatched { reason: reason.clone() })?;
        Ok(if each { *each_of } else { *once })
    }
}

/// Sets up an [`AmqpWorker`].
#[derive(Default)]
#[must_use]
pub struct AmqpWorkerBuilder {
    settings: Settings,
    name: Option<String>,
    width: Option<usize>,
    processes: bool,
    delivery_limit: Option<u32>,
}

/// So many workers may have a call and not come back.
const DELIVERIES: u32 = 5;

impl AmqpWorkerBuilder {
    common_settings!();

    /// What it is called, for the broker's lists and for executors. Default: one that nobody else has.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Makes so many calls at a time, in threads. Default: usable CPUs.
    pub fn threads(mut self, number: usize) -> Self {
        (self.width, self.processes) = (Some(number), false);
        self
    }

    /// Makes so many calls at a time, in processes: a crash costs the call that crashed, and calls can have time limits.
    /// The program begins with [`init`](crate::init).
    pub fn processes(mut self, number: usize) -> Self {
        (self.width, self.processes) = (Some(number), true);
        self
    }

    /// How many workers may have a call and not come back, before it ends with
    /// [`Error::WorkerDied`]. Default: 5.
    pub fn delivery_limit(mut self, workers: u32) -> Self {
        self.delivery_limit = Some(workers);
        self
    }

    /// Connects.
    pub fn connect(self, url: &str) -> Result<AmqpWorker, Error> {
        let width = self.width.unwrap_or_else(usable_cpus);
        if width == 0 {
            return Err(Error::invalid("a worker of 0 threads or processes", "give at least 1"));
        }
        let name = self.name.unwrap_or_else(|| format!("worker-{}", &unique()[..8]));
        let address = self.settings.address(url, name.clone())?;
        Ok(AmqpWorker {
            address,
            settings: self.settings,
            list: List::default(),
            name,
            width,
            processes: self.processes,
            delivery_limit: self.delivery_limit.unwrap_or(DELIVERIES).max(1),
            stop: Stop::default(),
        })
    }
}

impl fmt::Debug for AmqpWorkerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AmqpWorkerBuilder").field("queue", &self.settings.queue).finish_non_exhaustive()
    }
}
