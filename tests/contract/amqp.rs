//! The contract over AMQP: the executor with a queue of its own, and a worker for it, which makes as many calls at a time as
//! the clause asks for, in processes. So a call is as far away as it would be on another machine.
//!
//! Needs a broker in AMQP_URL; without, none of these clauses is run, and a line says so.
//!
//! Not here: what AMQP alone promises (`tests/amqp`). The rule: a clause that is not run stands in [`LEFT_OUT`], with the
//! reason; all others are run as they are on the other engines.

use std::fmt;
use std::thread;
use std::time::Duration;

use concurrent_futures::{AmqpExecutor, AmqpWorker, Error, Executor, Shutdown, Task};

use crate::broker::{Queue, Setup, WorkerThread, shared};
use crate::common::{LIMIT, watchdog};
use crate::engines::{OnRequest, Wishes};

const NO_WAY_BACK: &str = "what is said to a call that runs, and what it says, does not travel: messages go there once, and back once";

/// Clauses that hold on the other engines and not here, and why. Clauses of pools that hire and dismiss their own workers
/// (`control.rs`, `idle.rs`) are not for this engine at all: its workers are other programs.
const LEFT_OUT: &[(&str, &str)] = &[
    (
        "e1_a_closure_is_as_good_as_a_function",
        "a worker calls what is on its list, by name, and a closure has none",
    ),
    ("a_running_call_that_is_cancelled_hears_of_it_and_no_other_does", NO_WAY_BACK),
    ("shutdown_that_cancels_is_heard_of_by_what_runs", NO_WAY_BACK),
    ("a_map_that_is_dropped_is_heard_of_by_the_items_that_run", NO_WAY_BACK),
    ("a_cancelled_call_is_not_tried_again", NO_WAY_BACK),
    ("what_runs_and_is_not_wanted_is_told", NO_WAY_BACK),
    ("progress_reaches_those_who_listen_in_order_and_ends_with_the_last", NO_WAY_BACK),
    ("who_listens_may_panic_and_may_wait_for_another_call", NO_WAY_BACK),
    ("who_listens_cannot_wait_for_the_call_itself", NO_WAY_BACK),
    (
        "m15_failing_fast_cancels_what_has_not_started_although_nobody_asks",
        "the end of a call is told beside, and the next call may have been sent by then",
    ),
    (
        "an_idle_worker_is_used_again",
        "the worker awaits its calls, and a pool counts nobody as idle before a waker, which may be anybody's, has returned",
    ),
    ("those_who_wait_are_refused_when_the_pool_breaks", "it has no initializer that could break it"),
];

/// Runs a clause, if there is a broker, and if it is not left out.
pub(crate) fn clause(name: &str, body: impl FnOnce()) {
    if shared().is_none() || LEFT_OUT.iter().any(|(left_out, _)| *left_out == name) {
        return;
    }
    watchdog(&format!("{name} over AMQP"), LIMIT, body);
}

/// A name in the table that no clause has would leave nothing out, or what came later by that name.
#[test]
fn whatever_is_left_out_over_amqp_is_there() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/contract");
    let files = std::fs::read_dir(directory)
        .unwrap()
        .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
    let all: String = files.collect();
    for (name, _) in LEFT_OUT {
        assert!(all.contains(&format!("fn {name}<")), "{name}");
    }
}

/// What the worker can do: whatever the clauses submit.
fn list(mut worker: AmqpWorker) -> AmqpWorker {
    let files: &[fn(AmqpWorker) -> AmqpWorker] = &[
        crate::engines::register,
        crate::b_pool::register,
        crate::chunks::register,
        crate::errors::register,
        crate::f_future::register,
        crate::g_memory::register,
        crate::groups::register,
        crate::m_map::register,
        crate::map::register,
        crate::map_options::register,
        crate::n_names::register,
        crate::priorities::register,
        crate::submit::register,
        crate::talking::register,
        crate::unread::register,
        crate::w_wait::register,
        crate::x_executor::register,
    ];
    for register in files {
        worker = register(worker);
    }
    worker
}

/// The executor, and what it needs until its last call has ended.
pub(crate) struct Amqp(Option<(AmqpExecutor, WorkerThread, Queue)>);

impl Amqp {
    fn executor(&self) -> &AmqpExecutor {
        let (executor, ..) = self.0.as_ref().expect("it is there until it is dropped");
        executor
    }
}

impl Drop for Amqp {
    /// As an executor does it. But one that is dropped by a callback of its own does not wait for its calls, and they need
    /// the worker and the queue: somebody else waits then.
    fn drop(&mut self) {
        let Some((executor, worker, queue)) = self.0.take() else { return };
        executor.shutdown_with(Shutdown { wait: true, cancel_futures: thread::panicking() });
        let is_over = executor.shutdown_timeout(Duration::ZERO);
        let end = move || {
            drop(executor);
            drop(worker);
            drop(queue);
        };
        if is_over {
            end();
        } else {
            thread::spawn(end);
        }
    }
}

pub(crate) fn amqp(max_workers: usize) -> Amqp {
    Amqp::made(Wishes { max_workers, ..Wishes::default() }).expect("an executor")
}

impl OnRequest for Amqp {
    const MANY: u32 = 200;

    /// Without what an executor has no say in: how long its workers stay when there is nothing to do.
    fn made(wishes: Wishes) -> Result<Self, Error> {
        assert!(wishes.doomed.is_none(), "there are no initializers");
        let broker = shared().expect("a broker");
        let queue = broker.queue("contract");
        // As many are sent as run, so that which calls wait is as certain as with a pool; that several more are under way, by
        // default, is what `tests/amqp` is about.
        let mut builder =
            AmqpExecutor::builder().queue(&queue).persistent(false).quorum(false).window(wishes.max_workers);
        if let Some(tasks) = wishes.max_pending {
            builder = builder.max_pending(tasks);
        }
        let executor = builder.connect(broker.url())?;
        let worker = WorkerThread::start(&Setup::new(&queue).processes(wishes.max_workers).transient(), list);
        Ok(Amqp(Some((executor, worker, queue))))
    }
}

impl Executor for Amqp {
    fn execute(&self, task: Task) {
        self.executor().execute(task);
    }

    fn execute_or_return(&self, task: Task) -> Result<(), Task> {
        self.executor().execute_or_return(task)
    }

    fn shutdown_with(&self, how: Shutdown) {
        self.executor().shutdown_with(how);
    }

    fn shutdown_timeout(&self, limit: Duration) -> bool {
        self.executor().shutdown_timeout(limit)
    }
}

impl fmt::Debug for Amqp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.executor().fmt(f)
    }
}
