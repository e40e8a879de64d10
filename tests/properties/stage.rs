//! The stage: a script is played with a real executor and with the model, and the two are compared
//! at every step.
//!
//! The rule: the script never waits for what the model does not promise, and each script has a
//! limit of its own, so that a hang is a failure like any other: it is shrunk and printed.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::pin::Pin;
use std::process;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock, RwLockReadGuard, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use concurrent_futures::{
    AsFuture, Error, Executor, Future, MapOptions, ProcessPoolExecutor, ReturnWhen, SerialExecutor,
    SharedFuture, Shutdown, ThreadPoolExecutor, as_completed, wait, wait_timeout,
};
use serde::{Deserialize, Serialize};

use crate::common::{Journal, Page, this_thread, until_asleep, who_waits_for_what};
use crate::desk::{Held, Pass};
use crate::model::{Callback, Deed, Hand, Number, Outcome, Phase, Rules, Told, World, Worlds};
use crate::script::{Calls, Ending, Start, Step, Then, as_code};

/// An executor that scripts can be played on.
pub(crate) trait Engine: Executor + Sized + 'static {
    const NAME: &'static str;
    const RULES: Rules;
    /// `name` is part of the names of its workers.
    fn make(workers: usize, name: &str) -> Self;
    fn resize(&self, workers: usize);
    /// Is a worker of that name left, of those that were seen in these processes?
    fn has_worker(name: &str, processes: &HashSet<u32>) -> bool;
}

const RULES: Rules = Rules { workers: 0, kills: false, overtakes: false, wrong: false };

impl Engine for SerialExecutor {
    const NAME: &'static str = "SerialExecutor";
    const RULES: Rules = RULES;

    fn make(_workers: usize, _name: &str) -> Self {
        SerialExecutor::new()
    }

    fn resize(&self, _workers: usize) {}

    fn has_worker(_name: &str, _processes: &HashSet<u32>) -> bool {
        false
    }
}

impl Engine for ThreadPoolExecutor {
    const NAME: &'static str = "ThreadPoolExecutor";
    const RULES: Rules = RULES;

    fn make(workers: usize, name: &str) -> Self {
        ThreadPoolExecutor::builder().max_workers(workers).thread_name_prefix(name).build().unwrap()
    }

    fn resize(&self, workers: usize) {
        self.set_max_workers(workers).unwrap();
    }

    fn has_worker(name: &str, _processes: &HashSet<u32>) -> bool {
        let is_one = |comm: String| comm.starts_with(&format!("{name}_"));
        let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("comm")).ok()).any(is_one)
    }
}

impl Engine for ProcessPoolExecutor {
    const NAME: &'static str = "ProcessPoolExecutor";
    const RULES: Rules = Rules { kills: true, overtakes: true, ..RULES };

    fn make(workers: usize, name: &str) -> Self {
        ProcessPoolExecutor::builder().max_workers(workers).name(name).build().unwrap()
    }

    fn resize(&self, workers: usize) {
        self.set_max_workers(workers).unwrap();
    }

    fn has_worker(name: &str, processes: &HashSet<u32>) -> bool {
        let is_one = |pid: &u32| {
            let process = Path::new("/proc").join(pid.to_string());
            let words = fs::read_to_string(process.join("cmdline")).unwrap_or_default();
            let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
            // One that has ended and was not waited for has no words any more.
            let unburied = stat.contains(&format!(") Z {} ", process::id()));
            words.contains(&format!(" {name}_")) || unburied
        };
        ThreadPoolExecutor::has_worker(name, processes) || processes.iter().any(is_one)
    }
}

/// The script as a test that can be pasted into `scripts.rs`.
pub(crate) fn code<E: Engine>(workers: usize, script: &[Step]) -> String {
    as_code(&format!("play::<{}>({workers}, ", E::NAME), script)
}

/// Plays the script; a failure shows it as code.
#[track_caller]
pub(crate) fn play<E: Engine>(workers: usize, script: &[Step]) {
    attempt::<E>(workers, script, E::RULES)
        .unwrap_or_else(|error| panic!("{error}\n\n{}", code::<E>(workers, script)));
}

/// Plays the script in a thread of its own, which is left behind if it hangs.
pub(crate) fn attempt<E: Engine>(workers: usize, script: &[Step], rules: Rules) -> Result<(), String> {
    /// A script takes milliseconds, but the model may have many orders of events to go through: seconds,
    /// and on a busy machine more. Once one hangs, the others that are tried in order to shrink it are
    /// likely to.
    const LIMIT: Duration = Duration::from_secs(300);
    const NEXT_LIMIT: Duration = Duration::from_secs(20);
    static HUNG: AtomicBool = AtomicBool::new(false);

    let (tell, told) = mpsc::channel();
    let at = Arc::new(AtomicUsize::new(0));
    let player = {
        let (script, at) = (script.to_vec(), Arc::clone(&at));
        thread::spawn(move || {
            let mut stage = Stage::<E>::new(workers, rules);
            let played = catch_unwind(AssertUnwindSafe(|| stage.play(&script, &at)));
            let verdict = played.unwrap_or_else(|payload| {
                Err(payload.downcast_ref::<String>().map_or("it panicked".into(), Clone::clone))
            });
            // Before the stage is cleared, which may hang in turn.
            let _ = tell.send(verdict);
        })
    };
    let limit = if HUNG.load(Ordering::Relaxed) { NEXT_LIMIT } else { LIMIT };
    let verdict = told.recv_timeout(limit).unwrap_or_else(|_| {
        if !HUNG.swap(true, Ordering::Relaxed) {
            let (script, who) = (code::<E>(workers, script), who_waits_for_what());
            // At once, and not `eprintln!`: what comes later may take minutes.
            let _ = writeln!(io::stderr(), "\n=== a script hangs; it will be shrunk ===\n{script}\n{who}");
        }
        Err("it hangs".into())
    });
    if verdict.is_ok() {
        let _ = player.join();
        return Ok(());
    }
    verdict.map_err(|error| match (at.load(Ordering::Relaxed), script) {
        (at, script) if at < script.len() => format!("step {at}, {:?}: {error}", script[at]),
        _ => format!("at the end: {error}"),
    })
}

/// What a call is told to do.
#[derive(Clone, Serialize, Deserialize)]
struct Errand {
    number: Number,
    page: Option<Page>,
    pass: Option<Pass>,
    ending: Ending,
}

fn try_run(Errand { number, page, pass, ending }: Errand) -> Result<Number, String> {
    if let Some(page) = page {
        page.note(format!("{number} {}", process::id()));
    }
    if let Some(pass) = pass {
        pass.wait();
    }
    match ending {
        Ending::Returns => Ok(number),
        // Quietly: the hook would print thousands of these.
        Ending::Panics => resume_unwind(Box::new("a call")),
        Ending::Raises => Err("a call".into()),
        Ending::Dies => process::abort(),
    }
}

fn run(errand: Errand) -> Number {
    try_run(errand).expect("one that raises is tried")
}

fn outcome(outcome: Result<&Number, &Error>) -> Outcome {
    match outcome {
        Ok(number) => Outcome::Value(*number),
        Err(Error::Panicked { panic, .. }) if panic.message() == "a call" => Outcome::Panicked,
        Err(Error::Raised { error, .. }) if error.to_string() == "a call" => Outcome::Raised,
        Err(Error::WorkerDied { .. }) => Outcome::Died,
        Err(Error::Cancelled { .. }) => Outcome::Cancelled,
        Err(Error::ShutDown { .. }) => Outcome::Refused,
        Err(Error::InvalidArgument { what, .. }) if what.contains("taken before") => Outcome::Taken,
        Err(error) => Outcome::Odd(format!("{error:?}").leak()),
    }
}

/// `None`: it ran out of time.
fn in_time(result: Result<&Number, &Error>) -> Option<Outcome> {
    (!matches!(result, Err(Error::TimedOut { .. }))).then(|| outcome(result))
}

enum Handle {
    Owned(Future<Number>),
    Shared(SharedFuture<Number>),
}

impl Handle {
    fn as_future(&self) -> &(dyn AsFuture + Sync) {
        match self {
            Handle::Owned(future) => future,
            Handle::Shared(future) => future,
        }
    }

    fn cancel(&self) -> bool {
        match self {
            Handle::Owned(future) => future.cancel(),
            Handle::Shared(future) => future.cancel(),
        }
    }

    fn phase(&self) -> &'static str {
        let (running, done, cancelled) = match self {
            Handle::Owned(future) => (future.running(), future.done(), future.cancelled()),
            Handle::Shared(future) => (future.running(), future.done(), future.cancelled()),
        };
        match (running, done, cancelled) {
            (true, false, false) => "running",
            (false, false, false) => "pending",
            (false, true, false) => "done",
            (false, true, true) => "cancelled",
            _ => "torn",
        }
    }
}

fn phase_of(world: &World, call: Number) -> &'static str {
    match world.phase(call) {
        Phase::Unborn => "unborn",
        Phase::Pending => "pending",
        Phase::Running => "running",
        Phase::Over(Outcome::Cancelled) => "cancelled",
        Phase::Over(_) => "done",
    }
}

/// A call, shared with the callbacks that submit or cancel it.
struct Slot {
    errand: Errand,
    held: Option<Held>,
    handle: RwLock<Option<Handle>>,
}

impl Slot {
    fn read(&self) -> RwLockReadGuard<'_, Option<Handle>> {
        self.handle.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<R>(&self, change: impl FnOnce(&mut Option<Handle>) -> R) -> R {
        change(&mut self.handle.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn release(&self) {
        self.held.iter().for_each(Held::release);
    }

    fn submit<E: Executor>(&self, executor: &RwLock<Option<E>>) {
        if let Some(executor) = &*executor.read().unwrap_or_else(PoisonError::into_inner) {
            let errand = self.errand.clone();
            let future = match errand.ending {
                Ending::Raises => executor.try_submit(try_run, errand),
                _ => executor.submit(run, errand),
            };
            self.change(|handle| *handle = Some(Handle::Owned(future)));
        }
    }
}

/// The handles there are. The others are left alone: a callback may want to fill them in.
fn in_hand(slots: &[(Number, Arc<Slot>)]) -> Vec<(Number, RwLockReadGuard<'_, Option<Handle>>)> {
    let guards = slots.iter().map(|(call, slot)| (*call, slot.read()));
    guards.filter(|(_, handle)| handle.is_some()).collect()
}

/// Does `waiting` in another thread, and `then` when that one sleeps or has ended.
fn while_it_sleeps<R: Send>(waiting: impl FnOnce() -> R + Send, then: impl FnOnce()) -> R {
    thread::scope(|scope| {
        let (tell, told) = mpsc::channel();
        let thread = scope.spawn(move || {
            let _ = tell.send(this_thread());
            waiting()
        });
        until_asleep(&told.recv().expect("the thread starts"));
        then();
        thread.join().unwrap_or_else(|payload| resume_unwind(payload))
    })
}

/// What callbacks and wakers tell, in the order in which they do.
#[derive(Default)]
struct Ledger {
    entries: Mutex<Vec<(Number, Told)>>,
    bell: Condvar,
}

impl Ledger {
    fn tell(&self, call: Number, told: Told) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).push((call, told));
        self.bell.notify_all();
    }

    fn wait_for(&self, count: usize) {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.bell.wait_while(entries, |entries| entries.len() < count));
    }

    fn by_call(&self, calls: usize) -> Vec<Vec<Told>> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |call| entries.iter().filter(|entry| entry.0 == call).map(|entry| entry.1).collect();
        (0..calls).map(of).collect()
    }
}

/// Tells that it was woken.
struct Alarm {
    call: Number,
    step: usize,
    ledger: Arc<Ledger>,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.ledger.tell(self.call, Told::Waker(self.step));
    }
}

struct Stage<E> {
    name: String,
    executor: Arc<RwLock<Option<E>>>,
    calls: Vec<Arc<Slot>>,
    ledger: Arc<Ledger>,
    journal: Journal,
    /// Everybody may pass.
    open: bool,
    /// The last step was to settle.
    settled: bool,
    /// The executor said that all workers have left.
    joined: bool,
    worlds: Worlds,
}

/// With more worlds than this the script settles, whether it says so or not: few scripts come
/// here, and these would take longer than all others together.
const MANY: usize = 40;

impl<E: Engine> Stage<E> {
    fn new(workers: usize, rules: Rules) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("play{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let executor = E::make(workers, &name);
        let workers = if E::NAME == SerialExecutor::NAME { 0 } else { workers };
        Stage {
            name,
            executor: Arc::new(RwLock::new(Some(executor))),
            calls: Vec::new(),
            ledger: Arc::default(),
            journal: Journal::new(),
            open: false,
            settled: false,
            joined: false,
            worlds: Worlds::new(Rules { workers, ..rules }),
        }
    }

    fn play(&mut self, script: &[Step], at: &AtomicUsize) -> Result<(), String> {
        for (number, step) in script.iter().enumerate() {
            at.store(number, Ordering::Relaxed);
            self.take_step(number, step)?;
            if self.worlds.count() > MANY {
                self.settle()?;
            }
            self.settled = *step == Step::Settle;
        }
        at.store(script.len(), Ordering::Relaxed);
        self.finish()
    }

    fn take_step(&mut self, at: usize, step: &Step) -> Result<(), String> {
        match *step {
            Step::Submit(start, ending) => {
                let call = self.mention(start, ending);
                self.calls[call].submit(&self.executor);
                self.worlds.change(|world| world.submit(call));
            }
            Step::Settle => self.settle()?,
            Step::Release(call) => {
                self.calls[call].release();
                self.worlds.change(|world| world.release(call));
            }
            Step::Cancel(call) => {
                self.hand(call)?;
                if let Some(handle) = &*self.calls[call].read() {
                    self.worlds.act(&handle.cancel(), |world| world.cancel(call))?;
                }
            }
            Step::Kill(call) => {
                self.hand(call)?;
                if let Some(handle) = &*self.calls[call].read() {
                    let killed = match handle {
                        Handle::Owned(future) => future.kill(),
                        Handle::Shared(future) => future.kill(),
                    };
                    self.worlds.act(&killed, |world| world.kill(call))?;
                }
            }
            Step::Callback(call, then) => self.add_callback(at, call, then)?,
            Step::TryResult(call) | Step::ResultTimeout(call) => {
                self.hand(call)?;
                let patient = matches!(step, Step::ResultTimeout(_));
                let seen = self.calls[call].change(|handle| {
                    Some(match handle.as_mut()? {
                        Handle::Owned(future) if patient => {
                            in_time(future.result_timeout(Duration::ZERO).as_ref())
                        }
                        Handle::Owned(future) => future.try_result().map(|result| outcome(result.as_ref())),
                        Handle::Shared(future) => {
                            in_time(future.result_timeout(Duration::ZERO).as_ref().map(|number| *number))
                        }
                    })
                });
                if let Some(seen) = seen {
                    self.worlds.act(&seen, |world| world.take(call))?;
                }
            }
            Step::GetResult(call) => self.result(call)?,
            Step::Exception(call) => {
                self.hand(call)?;
                if let Some(handle) = &*self.calls[call].read()
                    && self.ends(call)
                {
                    let error = match handle {
                        Handle::Owned(future) => future.exception(),
                        Handle::Shared(future) => future.exception(),
                    };
                    let seen = Some(error.as_ref().map(|error| outcome(Err(error))));
                    self.worlds.look(&seen, |world| world.exception(call))?;
                }
            }
            Step::Poll(call) => {
                if self.hand(call)? == Hand::Owned {
                    let alarm = Alarm { call, step: at, ledger: Arc::clone(&self.ledger) };
                    let waker = Waker::from(Arc::new(alarm));
                    let polled = self.calls[call].change(|handle| match handle {
                        Some(Handle::Owned(future)) => {
                            Pin::new(future).poll(&mut Context::from_waker(&waker))
                        }
                        _ => unreachable!("only the script takes it"),
                    });
                    let seen = match &polled {
                        Poll::Ready(result) => Some(outcome(result.as_ref())),
                        Poll::Pending => None,
                    };
                    self.worlds.act(&seen, |world| world.poll(call, at))?;
                }
            }
            Step::Share(call) => {
                if self.hand(call)? == Hand::Owned {
                    self.calls[call].change(|handle| {
                        *handle = handle.take().map(|handle| match handle {
                            Handle::Owned(future) => Handle::Shared(future.shared()),
                            shared @ Handle::Shared(_) => shared,
                        });
                    });
                    self.worlds.change(|world| world.set_hand(call, Hand::Shared));
                }
            }
            Step::Forget(call) => {
                if self.hand(call)? != Hand::Nothing {
                    drop(self.calls[call].change(Option::take));
                    self.worlds.change(|world| world.set_hand(call, Hand::Nothing));
                }
            }
            Step::Wait(when, ref calls) => self.wait(when, calls, false)?,
            Step::WaitAndRelease(when, ref calls) => self.wait(when, calls, true)?,
            Step::AsCompleted(ref first, ref second) => self.as_completed(first, second)?,
            Step::Map { items, chunksize, buffersize, take } => {
                self.map(items, chunksize, buffersize, take)?;
            }
            Step::Resize(workers) => {
                self.with_executor(|executor| executor.resize(workers));
                if E::NAME != SerialExecutor::NAME {
                    self.worlds.change(|world| world.resize(workers));
                }
            }
            Step::End(how) => self.end(how)?,
            Step::EndTimeout => {
                let over = self.with_executor(|executor| executor.shutdown_timeout(Duration::ZERO));
                self.worlds.change(|world| world.close(false));
                match over {
                    Some(true) => {
                        self.joined = true;
                        self.worlds.look(&true, World::is_idle)?;
                    }
                    Some(false) if self.joined => return Err("the workers have come back".into()),
                    Some(false) => self.worlds.look(&true, World::was_used)?,
                    None => {}
                }
            }
            Step::Leave => self.leave(false)?,
            Step::LeaveUnwinding => self.leave(true)?,
        }
        Ok(())
    }

    /// The next call of the script.
    fn mention(&mut self, start: Start, ending: Ending) -> Number {
        let number = self.calls.len();
        let held = (start == Start::Held).then(Held::new);
        let pass = held.as_ref().map(Held::pass);
        let errand = Errand { number, page: Some(self.journal.page()), pass, ending };
        let slot = Slot { errand, held, handle: RwLock::default() };
        if self.open {
            slot.release();
        }
        self.calls.push(Arc::new(slot));
        self.worlds.change(|world| world.announce(start, ending));
        number
    }

    /// What there is in hand of a call: where a callback submits it, this is for the model to learn.
    fn hand(&mut self, call: Number) -> Result<Hand, String> {
        let hand = match &*self.calls[call].read() {
            None => Hand::Nothing,
            Some(Handle::Owned(_)) => Hand::Owned,
            Some(Handle::Shared(_)) => Hand::Shared,
        };
        self.worlds.look(&hand, |world| world.hand(call))?;
        Ok(hand)
    }

    /// Will it end by itself?
    fn ends(&self, call: Number) -> bool {
        self.worlds.finals().iter().all(|world| world.is_over(call))
    }

    fn with_executor<R>(&self, act: impl FnOnce(&E) -> R) -> Option<R> {
        self.executor.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(act)
    }

    fn add_callback(&mut self, who: usize, call: Number, then: Then) -> Result<(), String> {
        let (deed, other) = match then {
            Then::Nothing | Then::Throw => (Deed::Nothing, None),
            Then::Again(start, ending) => {
                let other = self.mention(start, ending);
                (Deed::Submit(other), Some(other))
            }
            Then::Stop(other) => (Deed::Cancel(other), Some(other)),
        };
        if self.hand(call)? != Hand::Owned {
            return Ok(());
        }
        let other = other.map(|other| Arc::clone(&self.calls[other]));
        let (ledger, executor) = (Arc::clone(&self.ledger), Arc::clone(&self.executor));
        let callback = move |result: Result<&Number, &Error>| {
            let outcome = outcome(result);
            let told = match (deed, other) {
                (Deed::Submit(_), Some(other)) => {
                    other.submit(&executor);
                    Told::Callback(who, outcome)
                }
                (Deed::Cancel(_), Some(other)) => {
                    Told::Canceller(who, outcome, other.read().as_ref().map(Handle::cancel))
                }
                _ => Told::Callback(who, outcome),
            };
            ledger.tell(call, told);
            if then == Then::Throw {
                resume_unwind(Box::new("a callback"));
            }
        };
        if let Some(Handle::Owned(future)) = &*self.calls[call].read() {
            future.add_done_callback(callback);
        }
        self.worlds.change(|world| world.add_callback(call, Callback { who, deed }));
        Ok(())
    }

    fn result(&mut self, call: Number) -> Result<(), String> {
        let hand = self.hand(call)?;
        // Whoever waits with the handle in hand keeps callbacks from cancelling with it.
        let mut then = self.worlds.clone();
        if hand == Hand::Owned {
            then.change(|world| world.set_hand(call, Hand::Nothing));
        }
        if hand == Hand::Nothing || !then.finals().iter().all(|world| world.is_over(call)) {
            return Ok(());
        }
        let seen = if hand == Hand::Owned {
            let handle = self.calls[call].change(Option::take);
            self.worlds = then;
            let Some(Handle::Owned(future)) = handle else { unreachable!("only the script takes it") };
            outcome(future.result().as_ref())
        } else {
            let handle = self.calls[call].read();
            let Some(Handle::Shared(future)) = &*handle else { unreachable!("only the script takes it") };
            outcome(future.result().as_ref().map(|number| *number))
        };
        self.worlds.act(&Some(seen), |world| world.take(call))
    }

    /// Waits for what ends by itself. `releasing`: waits in another thread, and lets
    /// everybody go when that one sleeps.
    fn wait(&mut self, when: ReturnWhen, Calls(calls): &Calls, releasing: bool) -> Result<(), String> {
        for call in calls {
            self.hand(*call)?;
        }
        let slots: Vec<_> = calls.iter().map(|call| (*call, Arc::clone(&self.calls[*call]))).collect();
        let guards = in_hand(&slots);
        let items = || guards.iter().filter_map(|(call, handle)| Some((*call, handle.as_ref()?.as_future())));
        let is_over = |world: &World| items().all(|(call, _)| world.is_over(call));
        let returns = |world: &World| match when {
            ReturnWhen::FirstCompleted => {
                items().any(|(call, _)| world.is_over(call)) || items().count() == 0
            }
            ReturnWhen::FirstException => items().any(|(call, _)| world.failed(call)) || is_over(world),
            ReturnWhen::AllCompleted => is_over(world),
        };
        let mut then = self.worlds.clone();
        if releasing {
            then.change(World::release_all);
        }
        let certain = then.finals().iter().all(returns);
        let waited = match (certain, releasing) {
            (false, _) => wait_timeout(items(), when, Duration::ZERO),
            (true, false) => wait(items(), when),
            (true, true) => {
                let waited = while_it_sleeps(
                    || wait(items(), when),
                    || self.calls.iter().for_each(|call| call.release()),
                );
                self.worlds = then;
                waited
            }
        };
        let numbers = |items: &[(Number, _)]| items.iter().map(|item| item.0).collect::<Vec<_>>();
        let (done, not_done) = (numbers(&waited.done), numbers(&waited.not_done));
        let mut rest = (done.iter().peekable(), not_done.iter().peekable());
        // Each in one part, in the order given; what is over is looked at one by one.
        for (call, _) in items() {
            let over = rest.0.next_if_eq(&&call).is_some();
            if !over && rest.1.next_if_eq(&&call).is_none() {
                return Err(format!("{done:?} and {not_done:?} are not the parts of {calls:?}"));
            }
            self.worlds.look(&over, |world| world.is_over(call))?;
        }
        let enough = |world: &World| match when {
            ReturnWhen::FirstCompleted => !done.is_empty(),
            ReturnWhen::FirstException => done.iter().any(|call| world.failed(*call)),
            ReturnWhen::AllCompleted => false,
        };
        if certain && !not_done.is_empty() {
            self.worlds
                .look(&true, enough)
                .map_err(|_| format!("it returned too early, with {done:?} done and {not_done:?} not"))?;
        }
        Ok(())
    }

    fn as_completed(&mut self, Calls(first): &Calls, Calls(second): &Calls) -> Result<(), String> {
        for call in first.iter().chain(second) {
            self.hand(*call)?;
        }
        let all = first.iter().chain(second.iter().filter(|call| !first.contains(call)));
        let slots: Vec<_> = all.map(|call| (*call, Arc::clone(&self.calls[*call]))).collect();
        let guards = in_hand(&slots);
        let items = guards.iter().filter_map(|(call, handle)| Some((*call, handle.as_ref()?.as_future())));
        let finals = self.worlds.finals();
        let ends = |call: Number| finals.iter().all(|world| world.is_over(call));
        let (now, later): (Vec<_>, Vec<_>) = items.partition(|item| first.contains(&item.0));
        let over: Vec<Number> = now
            .iter()
            .map(|item| item.0)
            .filter(|call| self.worlds.all(|world| world.is_over(*call)))
            .collect();

        let mut left = now.len();
        let mut come = now.iter().filter(|item| ends(item.0)).count();
        let mut completed = as_completed(now);
        let mut yielded = Vec::new();
        let mut later = Some(later);
        loop {
            if completed.len() != left {
                return Err(format!("{} are left, not {left}", completed.len()));
            }
            if !yielded.is_empty() || come == 0 {
                for item in later.take().into_iter().flatten() {
                    left += 1;
                    come += usize::from(ends(item.0));
                    completed.push(item);
                }
            }
            if come == 0 {
                break;
            }
            let Some((call, _)) = completed.next() else { return Err("nothing came out".into()) };
            if yielded.contains(&call) {
                return Err(format!("{call} came out twice"));
            }
            self.worlds.look(&true, |world| world.is_over(call))?;
            yielded.push(call);
            (left, come) = (left - 1, come - 1);
        }
        yielded.retain(|call| over.contains(call));
        if over.starts_with(&yielded) { Ok(()) } else { Err(format!("{yielded:?} came before {over:?}")) }
    }

    /// Takes as much as comes by itself; the model does what the library's map does with its chunks.
    fn map(
        &mut self,
        items: usize,
        chunksize: usize,
        buffersize: Option<usize>,
        take: usize,
    ) -> Result<(), String> {
        // A chunk is no larger than the buffer.
        let size = chunksize.min(buffersize.unwrap_or(chunksize));
        let mut sizes: Vec<usize> = (0..items).step_by(size).map(|start| size.min(items - start)).collect();
        let first = self.calls.len();
        for _ in &sizes {
            self.mention(Start::Free, Ending::Returns);
        }
        if self.with_executor(|_| ()).is_none() {
            return Ok(());
        }
        let executor = Arc::clone(&self.executor);
        let executor = executor.read().unwrap_or_else(PoisonError::into_inner);
        let Some(executor) = executor.as_ref() else { return Ok(()) };
        // Each item returns the number of its chunk; the first of a chunk notes that it ran.
        let page = self.journal.page();
        let errand = |item| {
            let page = (item % size == 0).then(|| page.clone());
            Errand { number: first + item / size, page, pass: None, ending: Ending::Returns }
        };
        let mut options = MapOptions::new().chunksize(chunksize);
        if let Some(items) = buffersize {
            options = options.buffersize(items);
        }
        let mut map = executor.map_with(run, (0..items).map(errand), options);

        let (mut submitted, mut outstanding) = (0, 0);
        let mut fill = |worlds: &mut Worlds, yielded: usize| {
            while submitted < sizes.len() && outstanding + size <= buffersize.unwrap_or(usize::MAX) + yielded
            {
                outstanding += sizes[submitted];
                let call = first + submitted;
                worlds.change(|world| {
                    world.submit(call);
                    world.set_hand(call, Hand::Nothing);
                });
                submitted += 1;
                if buffersize.is_some() && worlds.all(World::is_closed) {
                    // A refusal is the end of what is pulled.
                    sizes.truncate(submitted);
                }
            }
            submitted
        };
        let mut ready = fill(&mut self.worlds, 0);
        for item in 0..take.min(items) {
            let call = first + item / size;
            if item % size == 0 {
                // `next` would submit what there is room for now, and wait for this chunk.
                let mut then = self.worlds.clone();
                let submitted = fill(&mut then, item);
                let is_there = item / size < submitted;
                if is_there && !then.finals().iter().all(|world| world.is_over(call)) {
                    break;
                }
                (self.worlds, ready) = (then, submitted);
                if item / size >= ready {
                    if map.next().is_some() {
                        return Err(format!("a result {item} behind the refusal"));
                    }
                    break;
                }
            }
            let Some(result) = map.next() else { return Err(format!("no result {item}")) };
            let seen = Phase::Over(outcome(result.as_ref()));
            self.worlds.look(&seen, |world| world.phase(call))?;
        }
        drop(map);
        for chunk in 0..ready {
            self.worlds.change(|world| {
                world.cancel(first + chunk);
            });
        }
        Ok(())
    }

    fn end(&mut self, how: Shutdown) -> Result<(), String> {
        let executor = Arc::clone(&self.executor);
        let executor = executor.read().unwrap_or_else(PoisonError::into_inner);
        let Some(executor) = executor.as_ref() else { return Ok(()) };
        if how.wait {
            self.joined = true;
            self.wait_for_the_end(how.cancel_futures, || executor.shutdown_with(how))
        } else {
            executor.shutdown_with(how);
            self.worlds.change(|world| world.close(how.cancel_futures));
            Ok(())
        }
    }

    fn leave(&mut self, unwinding: bool) -> Result<(), String> {
        let executor = self.executor.write().unwrap_or_else(PoisonError::into_inner).take();
        let Some(executor) = executor else { return Ok(()) };
        self.worlds.change(World::lose_the_executor);
        self.wait_for_the_end(unwinding, || {
            // The panic is ours; one of the library's would look the same, and be caught as well.
            let _ = catch_unwind(AssertUnwindSafe(|| {
                let _executor = executor;
                if unwinding {
                    resume_unwind(Box::new("a user"));
                }
            }));
        })
    }

    /// Runs what waits until all has ended, and lets everybody go for whom it waits when it sleeps.
    fn wait_for_the_end(&mut self, cancelling: bool, waiting: impl FnOnce() + Send) -> Result<(), String> {
        self.open = true;
        while_it_sleeps(waiting, || self.calls.iter().for_each(|call| call.release()));
        if self.settled {
            // Nothing else was going on, so it slept because it had closed the door.
            self.worlds.change(|world| world.close(cancelling));
            self.worlds.change(World::open_the_turnstile);
        } else {
            self.worlds.change(World::open_the_turnstile);
            self.worlds.change(|world| world.close(cancelling));
        }
        self.worlds.look(&true, World::is_idle)?;
        self.see()
    }

    /// Waits for all that must come, and looks.
    fn settle(&mut self) -> Result<(), String> {
        let finals = self.worlds.finals();
        let all = |so: &dyn Fn(&World) -> bool| finals.iter().all(so);
        let tellings = |world: &World| world.told().iter().map(Vec::len).sum();
        self.ledger.wait_for(finals.iter().map(tellings).min().unwrap_or(0));
        for (call, slot) in self.calls.iter().enumerate() {
            let handle = slot.read();
            match (handle.as_ref(), &slot.held) {
                (Some(handle), _) if all(&|world| world.is_over(call)) => {
                    wait([handle.as_future()], ReturnWhen::AllCompleted);
                }
                (Some(handle), Some(held)) if all(&|world| world.phase(call) != Phase::Pending) => {
                    wait([handle.as_future(), &held.arrived], ReturnWhen::FirstCompleted);
                }
                (None, Some(held)) if all(&|world| world.is_held(call)) => held.arrived.wait(),
                // Its worker may have gone on to a later one before the host hears how it ended.
                (Some(handle), None) => {
                    while handle.phase() == "running" {
                        thread::yield_now()
                    }
                }
                _ => {}
            }
        }
        self.see()
    }

    /// What can be seen of the calls, and what has been told, must be what a world shows.
    fn see(&mut self) -> Result<(), String> {
        for call in 0..self.calls.len() {
            self.hand(call)?;
            let phase = self.calls[call].read().as_ref().map(Handle::phase);
            if let Some(phase) = phase {
                self.worlds
                    .look(&phase, |world| phase_of(world, call))
                    .map_err(|error| format!("the state of {call}: {error}"))?;
            }
        }
        let told = self.ledger.by_call(self.calls.len());
        self.worlds.look(&told, World::told).map_err(|error| format!("what was told to whom: {error}"))
    }

    /// Whatever happened: every future ends, everybody is told once, no call ran twice, nobody is left.
    fn finish(&mut self) -> Result<(), String> {
        self.leave(false)?;
        self.settle()?;
        for call in 0..self.calls.len() {
            self.result(call).map_err(|error| format!("the result of {call}: {error}"))?;
        }
        let lines = self.journal.lines();
        let runs: Vec<(Number, u32)> = lines
            .iter()
            .filter_map(|line| line.split_once(' '))
            .filter_map(|(number, pid)| Some((number.parse().ok()?, pid.parse().ok()?)))
            .collect();
        for call in 0..self.calls.len() {
            let times = runs.iter().filter(|run| run.0 == call).count();
            let allowed = |world: &World| {
                let (least, most) = world.runs(call);
                (least..=most).contains(&times)
            };
            self.worlds.look(&true, allowed).map_err(|_| format!("{call} ran {times} times"))?;
        }
        let processes: HashSet<u32> =
            runs.iter().map(|run| run.1).filter(|pid| *pid != process::id()).collect();
        // A thread that was waited for is listed for a moment longer.
        while E::has_worker(&self.name, &processes) {
            thread::yield_now();
        }
        Ok(())
    }
}

/// A script that failed: what still runs ends before the journal goes.
impl<E> Drop for Stage<E> {
    fn drop(&mut self) {
        self.calls.iter().for_each(|call| call.release());
        let executor = self.executor.write().unwrap_or_else(PoisonError::into_inner).take();
        drop(executor);
    }
}
