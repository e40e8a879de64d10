//! The model: an executor, its workers and its futures as plain data.
//!
//! What concurrency leaves open (which worker is quicker, whether a call has ended yet) is not
//! guessed. A [`World`] is one way in which things can stand; [`Worlds`] are all that agree with
//! what has been seen. Between two looks every world may move by itself; each look throws out the
//! worlds that do not agree. When none is left, the library did what no order of events explains.
//!
//! Not here: anything real (`stage.rs`).

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::fmt::Debug;
use std::mem;

use crate::script::{Ending, Start};

/// A call, by the order in which the script names them.
pub(crate) type Number = usize;

/// How a call ended, or what its future says instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Outcome {
    Value(Number),
    Panicked,
    Raised,
    Died,
    Cancelled,
    Refused,
    /// The value was taken before.
    Taken,
    /// Anything else: never right.
    Odd(&'static str),
}

impl Outcome {
    fn is_value(self) -> bool {
        matches!(self, Outcome::Value(_))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// A callback will submit it, perhaps.
    Unborn,
    Pending,
    Running,
    Over(Outcome),
}

/// What the script has in hand of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Hand {
    Nothing,
    Owned,
    Shared,
}

/// What a callback does besides telling that it ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Deed {
    Nothing,
    Submit(Number),
    Cancel(Number),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Callback {
    pub(crate) who: usize,
    pub(crate) deed: Deed,
}

/// What came to somebody's ears, by the step that asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Told {
    Callback(usize, Outcome),
    /// A callback that cancelled, and what that answered; `None`: the handle was gone.
    Canceller(usize, Outcome, Option<bool>),
    Waker(usize),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Call {
    start: Start,
    ending: Ending,
    phase: Phase,
    released: bool,
    killed: bool,
    hand: Hand,
    taken: bool,
    waiting: Vec<Callback>,
    waker: Option<usize>,
    told: Vec<Told>,
}

/// A thread tells how a call ended: first the waker, then one callback after the other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Telling {
    call: Number,
    outcome: Outcome,
    waker: Option<usize>,
    left: VecDeque<Callback>,
    /// What the callback that runs will tell: others may see its deed before.
    says: Option<Told>,
    /// The callbacks look at the value, so that nobody else can have it.
    lent: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Job {
    Nothing,
    /// Out of the queue, not started.
    Takes(Number),
    Runs(Number),
    /// The script's thread empties the queue …
    Drains(Vec<Number>),
    /// … and cancels what it found.
    Cancels(VecDeque<Number>),
}

/// A worker, or the script itself, which also runs callbacks.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Thread {
    job: Job,
    /// Innermost last: a callback that cancels runs the callbacks of what it cancels.
    telling: Vec<Telling>,
}

impl Thread {
    fn is_idle(&self) -> bool {
        self.job == Job::Nothing && self.telling.is_empty()
    }
}

/// What differs from engine to engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Rules {
    /// None: a call runs in the thread that submits it.
    pub(crate) workers: usize,
    /// Can a call that runs be stopped?
    pub(crate) kills: bool,
    /// May a call wait behind another in the hands of a worker that is busy, while later ones start elsewhere?
    pub(crate) overtakes: bool,
    /// A wrong model, to see what a failure looks like: a callback that comes too late is not told.
    pub(crate) wrong: bool,
}

/// The script's own thread.
const SCRIPT: usize = 0;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    rules: Rules,
    /// The executor: takes calls, has ever taken one, has been dropped.
    closed: bool,
    used: bool,
    gone: bool,
    /// Nobody is held any more.
    open: bool,
    queue: VecDeque<Number>,
    calls: Vec<Call>,
    /// The most that may be busy at a time; there may be more, who were so before.
    most: usize,
    threads: Vec<Thread>,
}

/// What the script does to a world. Each answers what the library must.
impl World {
    fn new(rules: Rules) -> Self {
        let idle = Thread { job: Job::Nothing, telling: Vec::new() };
        World {
            rules,
            closed: false,
            used: false,
            gone: false,
            open: false,
            queue: VecDeque::new(),
            calls: Vec::new(),
            most: rules.workers,
            threads: vec![idle; 1 + rules.workers],
        }
    }

    pub(crate) fn announce(&mut self, start: Start, ending: Ending) {
        self.calls.push(Call {
            start,
            ending,
            phase: Phase::Unborn,
            released: false,
            killed: false,
            hand: Hand::Nothing,
            taken: false,
            waiting: Vec::new(),
            waker: None,
            told: Vec::new(),
        });
    }

    pub(crate) fn submit(&mut self, call: Number) {
        if self.gone {
            return;
        }
        self.calls[call].hand = Hand::Owned;
        self.used |= !self.closed;
        self.calls[call].phase = if self.closed {
            Phase::Over(Outcome::Refused)
        } else if self.rules.workers == 0 {
            Phase::Over(self.calls[call].ending.outcome(call))
        } else {
            self.queue.push_back(call);
            Phase::Pending
        };
    }

    pub(crate) fn cancel(&mut self, call: Number) -> bool {
        self.cancel_in(SCRIPT, call)
    }

    fn cancel_in(&mut self, thread: usize, call: Number) -> bool {
        if self.calls[call].phase == Phase::Pending {
            self.end(thread, call, Outcome::Cancelled);
        }
        self.calls[call].phase == Phase::Over(Outcome::Cancelled)
    }

    pub(crate) fn kill(&mut self, call: Number) -> bool {
        if self.calls[call].phase == Phase::Running {
            self.calls[call].killed |= self.rules.kills;
            return self.rules.kills;
        }
        self.cancel(call)
    }

    pub(crate) fn release(&mut self, call: Number) {
        self.calls[call].released = true;
    }

    pub(crate) fn release_all(&mut self) {
        self.calls.iter_mut().for_each(|call| call.released = true);
    }

    pub(crate) fn open_the_turnstile(&mut self) {
        self.open = true;
    }

    pub(crate) fn add_callback(&mut self, call: Number, callback: Callback) {
        match self.has(call) {
            Some(_) if self.rules.wrong => {}
            Some(outcome) => self.tell(SCRIPT, call, outcome, vec![callback]),
            None => self.calls[call].waiting.push(callback),
        }
    }

    /// What is there to be taken: nothing while callbacks look at the value.
    pub(crate) fn has(&self, call: Number) -> Option<Outcome> {
        let Phase::Over(outcome) = self.calls[call].phase else { return None };
        match outcome {
            Outcome::Value(_) if self.is_lent(call) => None,
            Outcome::Value(_) if self.calls[call].taken => Some(Outcome::Taken),
            outcome => Some(outcome),
        }
    }

    pub(crate) fn take(&mut self, call: Number) -> Option<Outcome> {
        let outcome = self.has(call);
        self.calls[call].taken |= outcome.is_some() && self.calls[call].hand != Hand::Shared;
        outcome
    }

    pub(crate) fn poll(&mut self, call: Number, waker: usize) -> Option<Outcome> {
        let outcome = self.take(call);
        if outcome.is_none() {
            self.calls[call].waker = Some(waker);
        }
        outcome
    }

    pub(crate) fn set_hand(&mut self, call: Number, hand: Hand) {
        self.calls[call].hand = hand;
    }

    /// `cancelling`: also what has not started is cancelled.
    /// Is what is submitted refused?
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(crate) fn close(&mut self, cancelling: bool) {
        self.closed = true;
        if cancelling {
            self.threads[SCRIPT].job = Job::Drains(Vec::new());
        }
    }

    pub(crate) fn resize(&mut self, workers: usize) {
        self.most = workers;
        let idle = Thread { job: Job::Nothing, telling: Vec::new() };
        self.threads.resize(self.threads.len().max(1 + workers), idle);
        // Workers are alike.
        self.threads[1..].sort_unstable();
    }

    pub(crate) fn lose_the_executor(&mut self) {
        self.gone = true;
    }
}

/// What can be seen of a world.
impl World {
    pub(crate) fn hand(&self, call: Number) -> Hand {
        self.calls[call].hand
    }

    pub(crate) fn phase(&self, call: Number) -> Phase {
        self.calls[call].phase
    }

    pub(crate) fn is_over(&self, call: Number) -> bool {
        matches!(self.phase(call), Phase::Over(_))
    }

    /// As `wait` sees it: being cancelled is no failure.
    pub(crate) fn failed(&self, call: Number) -> bool {
        matches!(self.phase(call), Phase::Over(outcome) if !outcome.is_value() && outcome != Outcome::Cancelled)
    }

    /// It has arrived at the turnstile, or will.
    pub(crate) fn is_held(&self, call: Number) -> bool {
        let Call { start, phase, released, killed, .. } = &self.calls[call];
        *phase == Phase::Running && *start == Start::Held && !released && !killed && !self.open
    }

    pub(crate) fn told(&self) -> Vec<Vec<Told>> {
        self.calls.iter().map(|call| call.told.clone()).collect()
    }

    /// How often its function was called: the least and the most.
    pub(crate) fn runs(&self, call: Number) -> (usize, usize) {
        match self.calls[call].phase {
            Phase::Over(Outcome::Cancelled | Outcome::Refused) | Phase::Unborn | Phase::Pending => (0, 0),
            _ if self.calls[call].killed => (0, 1),
            _ => (1, 1),
        }
    }

    /// `None`: one has to wait for it.
    pub(crate) fn exception(&self, call: Number) -> Option<Option<Outcome>> {
        let outcome = match self.phase(call) {
            // One that is shared looks at the value, which may have been taken before.
            _ if self.hand(call) == Hand::Shared => self.has(call)?,
            Phase::Over(outcome) => outcome,
            _ => return None,
        };
        Some(Some(outcome).filter(|outcome| !outcome.is_value()))
    }

    /// Every worker waits for work, and there is none.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.threads.iter().all(Thread::is_idle)
    }

    pub(crate) fn was_used(&self) -> bool {
        self.used
    }

    fn is_lent(&self, call: Number) -> bool {
        let shows = |telling: &Telling| telling.call == call && telling.lent;
        self.threads.iter().any(|thread| thread.telling.iter().any(shows))
    }
}

/// What happens by itself.
impl World {
    /// Every world that is one move away.
    fn moves(&self, mut reach: impl FnMut(World)) {
        for (number, thread) in self.threads.iter().enumerate() {
            let mut reach_by = |change: &dyn Fn(&mut World)| {
                let mut world = self.clone();
                change(&mut world);
                // Workers are alike.
                world.threads[1..].sort_unstable();
                reach(world);
            };
            if !thread.telling.is_empty() {
                reach_by(&|world| world.tell_next(number));
                continue;
            }
            match thread.job {
                Job::Nothing if number == SCRIPT => {}
                Job::Nothing
                    if self.threads[1..].iter().filter(|thread| !thread.is_idle()).count() >= self.most => {}
                Job::Nothing => {
                    let others_run = || self.threads.iter().any(|thread| matches!(thread.job, Job::Runs(_)));
                    let some = if self.rules.overtakes && others_run() { self.queue.len() } else { 1 };
                    for place in 0..some.min(self.queue.len()) {
                        reach_by(&|world| {
                            let call = world.queue.remove(place);
                            world.threads[number].job = call.map_or(Job::Nothing, Job::Takes);
                        });
                    }
                }
                Job::Runs(call) => {
                    for outcome in self.endings(call) {
                        reach_by(&|world| {
                            world.threads[number].job = Job::Nothing;
                            world.end(number, call, outcome);
                        });
                    }
                }
                _ => reach_by(&|world| world.go_on(number)),
            }
        }
    }

    fn go_on(&mut self, thread: usize) {
        let job = mem::replace(&mut self.threads[thread].job, Job::Nothing);
        self.threads[thread].job = match job {
            Job::Nothing => Job::Nothing,
            Job::Takes(call) if self.calls[call].phase == Phase::Pending => {
                self.calls[call].phase = Phase::Running;
                Job::Runs(call)
            }
            Job::Takes(_) => Job::Nothing,
            Job::Drains(mut found) => match self.queue.pop_front() {
                Some(call) => {
                    found.push(call);
                    Job::Drains(found)
                }
                None => Job::Cancels(found.into()),
            },
            Job::Cancels(mut found) => match found.pop_front() {
                Some(call) => {
                    self.cancel_in(thread, call);
                    Job::Cancels(found)
                }
                None => Job::Nothing,
            },
            runs @ Job::Runs(_) => runs,
        };
    }

    /// How a call that runs can end now.
    fn endings(&self, number: Number) -> Vec<Outcome> {
        let call = &self.calls[number];
        let mut endings = Vec::new();
        if call.start == Start::Free || call.released || self.open {
            endings.push(call.ending.outcome(number));
        }
        if call.killed && !endings.contains(&Outcome::Died) {
            endings.push(Outcome::Died);
        }
        if call.killed {
            // It was on its way, and its process had not come to it.
            endings.push(Outcome::Cancelled);
        }
        endings
    }

    fn end(&mut self, thread: usize, call: Number, outcome: Outcome) {
        self.calls[call].phase = Phase::Over(outcome);
        let callbacks = mem::take(&mut self.calls[call].waiting);
        self.tell(thread, call, outcome, callbacks);
    }

    fn tell(&mut self, thread: usize, call: Number, outcome: Outcome, callbacks: Vec<Callback>) {
        let lent = outcome.is_value() && !callbacks.is_empty();
        let waker = self.calls[call].waker.take();
        if waker.is_some() || !callbacks.is_empty() {
            let telling = Telling { call, outcome, waker, left: callbacks.into(), says: None, lent };
            self.threads[thread].telling.push(telling);
        }
    }

    /// Tells one; after the last callback puts the value back, which can then be taken.
    fn tell_next(&mut self, thread: usize) {
        let Some(telling) = self.threads[thread].telling.last_mut() else { return };
        let (call, outcome) = (telling.call, telling.outcome);
        if let Some(waker) = telling.waker.take() {
            return self.calls[call].told.push(Told::Waker(waker));
        }
        if let Some(told) = telling.says.take() {
            return self.calls[call].told.push(told);
        }
        if let Some(Callback { who, deed }) = telling.left.pop_front() {
            let depth = self.threads[thread].telling.len() - 1;
            let told = match deed {
                Deed::Nothing => return self.calls[call].told.push(Told::Callback(who, outcome)),
                Deed::Submit(other) => {
                    self.submit(other);
                    Told::Callback(who, outcome)
                }
                Deed::Cancel(other) => {
                    let there = self.calls[other].hand != Hand::Nothing;
                    Told::Canceller(who, outcome, there.then(|| self.cancel_in(thread, other)))
                }
            };
            self.threads[thread].telling[depth].says = Some(told);
            return;
        }
        if telling.lent {
            // Meanwhile more may have come.
            telling.left = mem::take(&mut self.calls[call].waiting).into();
            telling.lent = !telling.left.is_empty();
            telling.waker = if telling.lent { None } else { self.calls[call].waker.take() };
        } else {
            self.threads[thread].telling.pop();
        }
    }
}

/// Every world that agrees with what has been seen; with each, all that it may become.
#[derive(Clone)]
pub(crate) struct Worlds(HashSet<World>);

impl Worlds {
    pub(crate) fn new(rules: Rules) -> Self {
        Worlds(HashSet::from([World::new(rules)]))
    }

    /// The script did something and `seen` is what it got; `act` is what a world gives.
    pub(crate) fn act<R: PartialEq + Debug>(
        &mut self,
        seen: &R,
        act: impl Fn(&mut World) -> R,
    ) -> Result<(), String> {
        let mut allowed = BTreeSet::new();
        let mut agree = HashSet::new();
        for world in &self.0 {
            let mut world = world.clone();
            let answer = act(&mut world);
            if answer == *seen {
                agree.insert(world);
            } else {
                allowed.insert(format!("{answer:?}"));
            }
        }
        self.go_on_with(agree, seen, &allowed)
    }

    /// The same without an answer.
    pub(crate) fn change(&mut self, change: impl Fn(&mut World)) {
        let changed = self.0.drain().map(|mut world| {
            change(&mut world);
            world
        });
        self.0 = changed.collect();
        self.close();
    }

    /// The same without an action.
    pub(crate) fn look<R: PartialEq + Debug>(
        &mut self,
        seen: &R,
        look: impl Fn(&World) -> R,
    ) -> Result<(), String> {
        let mut allowed = BTreeSet::new();
        let mut agree = HashSet::new();
        for world in &self.0 {
            let answer = look(world);
            if answer == *seen {
                agree.insert(world);
            } else {
                allowed.insert(format!("{answer:?}"));
            }
        }
        if allowed.is_empty() {
            return Ok(());
        }
        let agree = agree.into_iter().cloned().collect();
        self.go_on_with(agree, seen, &allowed)
    }

    fn go_on_with(
        &mut self,
        agree: HashSet<World>,
        seen: &impl Debug,
        allowed: &BTreeSet<String>,
    ) -> Result<(), String> {
        if agree.is_empty() {
            let allowed: Vec<_> = allowed.iter().map(String::as_str).collect();
            return Err(format!("it was {seen:?}; the model allows {}", allowed.join(" or ")));
        }
        self.0 = agree;
        self.close();
        Ok(())
    }

    /// Adds all that may follow, and leaves out the moments when the script itself is in a callback.
    fn close(&mut self) {
        let mut open: Vec<World> = self.0.iter().cloned().collect();
        while let Some(world) = open.pop() {
            world.moves(|next| {
                if !self.0.contains(&next) {
                    self.0.insert(next.clone());
                    open.push(next);
                }
            });
        }
        self.0.retain(|world| world.threads[SCRIPT].is_idle());
    }

    /// Where it all ends if the script only waits.
    pub(crate) fn finals(&self) -> Vec<World> {
        let is_final = |world: &&World| {
            let mut moves = 0;
            world.moves(|_| moves += 1);
            moves == 0
        };
        self.0.iter().filter(is_final).cloned().collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Is it so in every world, now?
    pub(crate) fn all(&self, so: impl Fn(&World) -> bool) -> bool {
        self.0.iter().all(so)
    }
}
