//! The context of the one worker of an AMQP executor's pool: it sends calls away, by the post, and ends them with what
//! comes back.
//!
//! ```text
//!   queue ── window has room ──▶ │ in hand: sent ── confirmed ── reply │ ──▶ ended, or queued for another attempt
//!                                      ▲   │
//!                       sent again ────┘   └── the session is over, and it was not confirmed; or all, if the
//!                                              queues of before are gone
//! ```
//!
//! A call is in hand from when it is sent until its reply is here. So much is in hand as keeps the workers busy, and no
//! more: what is queued here can still be cancelled, and goes out by its priority.
//!
//! | what happens                       | what becomes of calls in hand                                            |
//! |------------------------------------|--------------------------------------------------------------------------|
//! | a reply                            | it ends, or is put back for another attempt                              |
//! | a second reply to the same attempt | nothing: it is dropped                                                   |
//! | the broker takes no such message   | the longest that is not confirmed ends with `Encode`                     |
//! | the session ends                   | nothing; its replies come in the next                                    |
//! | there is none for too long         | all end with `Broker`, and what is queued, and what comes until there is |
//! | one is neither in the queue nor, as far as workers say, with one of them, for too long | it is lost, and sent again |
//!
//! Not here: what is said to the broker (`post.rs`). The rule: every call that is taken out of the queue leaves the table of
//! those in hand exactly once, and runs no code of the user under its lock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::desk::{Call, Desk, InHand};
use super::message::{self, Ended, ReplyHead};
use super::post::{Heard, Id, Order, Post, Seen};
use super::settings::{HIGHEST, USUAL, refused_as_too_long};
use crate::account::{self, Account};
use crate::enclosed::Received;
use crate::error::Error;
use crate::id::TaskRef;
use crate::options::Attempts;
use crate::outcome::{arrived, discard};
use crate::pool::{Context, Seat, Sleep};
use crate::signals;
use crate::task::{Begun, PortableWork, Reply};
use crate::worker::WorkerInfo;

/// The least that is in hand, if there is so much; and for each worker, before any has said how many it makes at a time.
const LEAST: usize = 16;

/// So many workers that are gone are remembered, beside as many as there are.
const SPARE: usize = 16;

/// So often a worker says what it has in the time after which it would be lost, and it is looked for what is: a worker may be lost
/// itself, and another have begun to say so.
pub(super) const TOLD: u32 = 6;

/// It is looked that often for calls that are lost, or more often.
const LONGEST_LOOK: Duration = Duration::from_secs(3600);

/// So many of each call that a worker makes at a time are in hand: what it makes, and what waits there for it.
const EACH: usize = 2;

pub(crate) struct AmqpContext {
    desk: Arc<Desk>,
    post: Arc<Post>,
    heard: Receiver<Heard>,
    account: Arc<Account>,
    limits: Limits,
    /// When it is next looked for calls that are lost.
    next_look: Instant,
    /// The one that is open.
    session: Option<u64>,
    /// Since when there is none, and why.
    away: Option<(Instant, Error)>,
    crew: Crew,
}

/// How many, and how long.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// So many in hand, if somebody has said so.
    pub(super) window: Option<usize>,
    /// How long the broker may be away.
    pub(super) patience: Option<Duration>,
    /// How long nothing need be heard of a call.
    pub(super) resend_after: Duration,
}

/// Who has answered.
struct Crew {
    /// By their names.
    known: BTreeMap<String, Hand>,
    /// How many calls those that are known make at a time, all together.
    width: usize,
    /// How many consumers there are.
    seen: Arc<Seen>,
    /// How many were known at some time.
    ever: usize,
    /// How many replies have come.
    replies: u64,
}

struct Hand {
    info: WorkerInfo,
    width: usize,
    /// The number of its last reply.
    heard: u64,
}

impl Crew {
    fn new(seen: Arc<Seen>) -> Self {
        Crew { known: BTreeMap::new(), width: 0, seen, ever: 0, replies: 0 }
    }

    fn note(&mut self, head: &ReplyHead) -> &WorkerInfo {
        if !self.known.contains_key(&head.worker) {
            self.forget();
        }
        self.replies += 1;
        let ever = &mut self.ever;
        let hand = self.known.entry(head.worker.clone()).or_insert_with(|| {
            let number = *ever;
            *ever += 1;
            let info = WorkerInfo { name: head.worker.clone(), number, pid: Some(head.pid) };
            Hand { info, width: 0, heard: 0 }
        });
        let width = head.width as usize;
        self.width = self.width.saturating_sub(hand.width).saturating_add(width);
        (hand.width, hand.heard, hand.info.pid) = (width, self.replies, Some(head.pid));
        &hand.info
    }

    fn count(&self) -> usize {
        self.seen.workers.load(Ordering::Relaxed)
    }

    /// Half of those that are known, if they are far more than there can be: those that were silent for longest.
    fn forget(&mut self) {
        let count = self.count();
        if self.known.len() < count.saturating_mul(2).saturating_add(SPARE) {
            return;
        }
        let mut heard: Vec<u64> = self.known.values().map(|hand| hand.heard).collect();
        let middle = heard.len() / 2;
        let since = *heard.select_nth_unstable(middle).1;
        self.known.retain(|_, hand| hand.heard >= since);
        self.width = self.known.values().fold(0, |sum, hand| sum.saturating_add(hand.width));
    }

    /// How many calls are to be in hand. The broker knows how many workers there are before any of them has answered, and
    /// that they are there while they answer nothing for an hour; what they have answered tells how wide they are.
    fn window(&self) -> usize {
        let known = self.known.len();
        let count = self.count();
        let calls = match known {
            0 => count.saturating_mul(LEAST),
            _ => self.width.saturating_mul(count).saturating_mul(EACH) / known,
        };
        calls.max(LEAST)
    }
}

impl AmqpContext {
    pub(super) fn new(
        desk: Arc<Desk>,
        post: Arc<Post>,
        heard: Receiver<Heard>,
        account: Arc<Account>,
        limits: Limits,
    ) -> Self {
        let crew = Crew::new(Arc::clone(&desk.seen));
        let (session, away, next_look) = (None, None, Instant::now());
        AmqpContext { desk, post, heard, account, limits, next_look, session, away, crew }
    }

    /// How many are to be in hand.
    fn window(&self) -> usize {
        self.limits.window.unwrap_or_else(|| self.crew.window())
    }

    /// Sends a call, or ends it if there is no hope.
    fn take(&mut self, call: Call) {
        let Call { item, letter } = call;
        if let Some(error) = self.verdict() {
            return item.fail(error);
        }
        let (number, priority) = (item.task().id.get(), item.priority());
        let Some(call) = item.begin() else { return };
        let heard = Instant::now();
        let in_hand = InHand { letter, priority, call: Some(call), is_confirmed: false, heard };
        self.send(number, &in_hand);
        self.desk.table.lock().insert(number, in_hand);
    }

    /// Without a session it is sent when there is one.
    fn send(&self, number: u64, in_hand: &InHand) {
        let Some(session) = self.session else { return };
        let level = i32::from(in_hand.priority) + i32::from(USUAL);
        let priority = u8::try_from(level.clamp(0, HIGHEST.into())).unwrap_or(USUAL);
        self.desk.sent.fetch_add(in_hand.letter.body.len() as u64, Ordering::Relaxed);
        let id = Id { call: number, attempt: in_hand.letter.attempt() };
        self.post.order(Order::Send { session, id, body: Arc::clone(&in_hand.letter.body), priority });
    }

    /// Why nothing can be done any more, for now.
    fn verdict(&self) -> Option<Error> {
        let (since, error) = self.away.as_ref()?;
        self.limits.patience.filter(|patience| since.elapsed() >= *patience).map(|_| error.clone())
    }

    /// Takes from the queue what there is room for.
    fn fill(&mut self, seat: &Seat<'_, Call>) {
        self.desk.looks();
        while self.has_room() {
            match seat.take_one() {
                Some(call) => self.take(call),
                None => return,
            }
        }
    }

    fn has_room(&self) -> bool {
        self.desk.table.lock().len() < self.window()
    }

    /// What is heard next, or nothing by when something else is to be done.
    fn hear(&self, seat: &Seat<'_, Call>) -> Option<Heard> {
        let due = if self.has_room() { seat.next_due() } else { None };
        let last = self
            .away
            .as_ref()
            .zip(self.limits.patience)
            .and_then(|((since, _), patience)| since.checked_add(patience));
        let until = [due, last].into_iter().flatten().fold(self.next_look, Instant::min);
        self.heard.recv_deadline(until).ok()
    }

    /// Looks for calls that are lost now and then, and sends them again.
    fn look(&mut self) {
        let now = Instant::now();
        if now < self.next_look {
            return;
        }
        let time = self.limits.resend_after;
        self.next_look = now + (time / TOLD).min(LONGEST_LOOK);
        if !self.desk.seen.is_empty_for(time) {
            return;
        }
        let is_silent_for = |in_hand: &InHand, time| {
            in_hand.is_confirmed && now.saturating_duration_since(in_hand.heard) >= time
        };
        let mut table = self.desk.table.lock();
        if !table.values().any(|in_hand| is_silent_for(in_hand, time)) {
            return;
        }
        // What is sent again lies in the queue, and then nothing counts as lost: so what was probably lost with it goes at once.
        for (number, in_hand) in &mut *table {
            if is_silent_for(in_hand, time / 2) {
                (in_hand.is_confirmed, in_hand.heard) = (false, now);
                self.send(*number, in_hand);
            }
        }
    }

    fn attend(&mut self, heard: Heard, seat: &Seat<'_, Call>) {
        match heard {
            Heard::Up { session, fresh } => {
                self.session = Some(session);
                self.away = None;
                let mut table = self.desk.table.lock();
                for (number, in_hand) in &mut *table {
                    in_hand.is_confirmed &= !fresh;
                    if !in_hand.is_confirmed {
                        self.send(*number, in_hand);
                    }
                }
            }
            Heard::Confirmed(id) => {
                if let Some(in_hand) = self.desk.table.lock().get_mut(&id.call) {
                    in_hand.is_confirmed |= in_hand.letter.attempt() == id.attempt;
                    in_hand.heard = Instant::now();
                }
            }
            Heard::Reply { id, body } => self.answered(id, body, seat),
            Heard::TooLong(reason) => self.give_up_the_longest(&reason),
            Heard::Away { since, error } => {
                self.session = None;
                self.away = Some((since, error));
            }
            Heard::Look => {}
        }
    }

    fn answered(&mut self, id: Id, mut body: Vec<u8>, seat: &Seat<'_, Call>) {
        self.desk.received.fetch_add(body.len() as u64, Ordering::Relaxed);
        let head = message::open::<ReplyHead>(&mut body);
        // One that comes twice, or is of one that was given up, or of an attempt before, is nobody's.
        let taken = {
            let mut table = self.desk.table.lock();
            let in_hand = table.get_mut(&id.call).filter(|in_hand| in_hand.letter.attempt() == id.attempt);
            let Some(in_hand) = in_hand else { return };
            if let Ok(head @ ReplyHead { ended: Ended::NotYet, .. }) = &head {
                in_hand.heard = Instant::now();
                self.crew.note(head);
                return;
            }
            in_hand.call.take().map(|call| (call, in_hand.letter.attempts.take()))
        };
        let Some((mut call, attempts)) = taken else { return };
        let task = call.task();
        let outcome = match head {
            Ok(head) => {
                let attempt = attempts.as_ref().map_or(1, |attempts| attempts.number());
                let worker = self.crew.note(&head);
                if call.is_to_start() {
                    let at = Instant::now();
                    call.starts(
                        &self.account,
                        attempt,
                        Some(worker),
                        at.checked_sub(head.took).unwrap_or(at),
                    );
                }
                ended(task, attempt, head)
            }
            Err(error) => {
                let reason = error.to_string();
                Err(Error::Decode { task, what: "return value", reason })
            }
        };
        match (outcome, attempts) {
            (Err(error), Some(attempts)) => self.fail_or_put_back(call, attempts, error, seat),
            (outcome, _) => {
                self.desk.table.lock().remove(&id.call);
                self.complete(call, outcome, body);
            }
        }
    }

    fn complete(&self, call: Begun<dyn PortableWork>, outcome: Result<(), Error>, mut body: Vec<u8>) {
        let reply = outcome.map(|()| Reply { bytes: &mut body, received: Received::default() });
        if let Some(completion) = call.complete_unheard(reply) {
            self.desk.callbacks.run(self.account.home(), completion);
        }
    }

    /// Ends a call with what came of its present attempt, or puts it back for another one.
    fn fail_or_put_back(
        &self,
        call: Begun<dyn PortableWork>,
        mut attempts: Box<Attempts>,
        error: Error,
        seat: &Seat<'_, Call>,
    ) {
        let task = call.task();
        let again = attempts.failed(task, error.clone());
        let mut table = self.desk.table.lock();
        let in_hand = table.remove(&task.id.get());
        match (again, in_hand) {
            (Ok(due), Some(InHand { mut letter, .. })) if !signals::is_unwanted(task.id) => {
                let item = call.put_back();
                drop(table);
                let number = attempts.number();
                account::retried(self.account.home(), task, &error, number, due);
                letter.attempts = Some(attempts);
                letter.renew();
                seat.put_back(Call { item, letter }, due);
            }
            (again, in_hand) => {
                drop(table);
                discard((in_hand, attempts));
                self.complete(call, Err(again.err().unwrap_or(error)), Vec::new());
            }
        }
    }

    /// The broker does not take one of the messages that it has not confirmed. Sent again, it would end each session.
    fn give_up_the_longest(&self, reason: &str) {
        let mut table = self.desk.table.lock();
        let unconfirmed = table.iter().filter(|(_, in_hand)| !in_hand.is_confirmed);
        let longest =
            unconfirmed.max_by_key(|(_, in_hand)| in_hand.letter.body.len()).map(|(number, _)| *number);
        let in_hand = longest.and_then(|number| table.remove(&number));
        drop(table);
        if let Some(InHand { call: Some(call), letter, .. }) = in_hand {
            discard(letter);
            let reason = refused_as_too_long(reason);
            let error = Error::Encode { task: call.task(), what: "argument", reason };
            self.complete(call, Err(error), Vec::new());
        }
    }

    /// The broker has been away for too long: ends what is in hand, and what is queued.
    fn give_up(&self, error: &Error, seat: &Seat<'_, Call>) {
        let table = std::mem::take(&mut *self.desk.table.lock());
        for (_, InHand { call, letter, .. }) in table {
            discard(letter);
            if let Some(call) = call {
                self.complete(call, Err(error.clone()), Vec::new());
            }
        }
        while let Some(call) = seat.take_one() {
            call.item.fail(error.clone());
        }
    }
}

/// What a reply says.
fn ended(task: TaskRef, attempt: u32, head: ReplyHead) -> Result<(), Error> {
    let ReplyHead { worker, pid, ended, .. } = head;
    Err(match ended {
        // One that has not ended does not come here.
        Ended::Value | Ended::NotYet => return Ok(()),
        Ended::Failed(failure) => arrived(task, failure),
        Ended::Died { pid, status, peak_memory, probable_cause } => {
            let status = status.map(message::status);
            Error::WorkerDied { task, pid, status, attempt, peak_memory, probable_cause }
        }
        Ended::Poisonous { deaths } => Error::WorkerDied {
            task,
            pid,
            status: None,
            attempt: deaths,
            peak_memory: None,
            probable_cause: Some(format!(
                "{deaths} workers had it and did not come back, so it is not given to another"
            )),
        },
        Ended::TimedOut { limit } => {
            Error::TimedOut { what: format!("{task}, stopped by the worker {worker},"), limit }
        }
        Ended::Unknown { known } => {
            let reason = format!(
                "it has no function of that name, but {}; `register` it there",
                if known.is_empty() { "none at all".into() } else { known.join(", ") }
            );
            Error::Unknown { task, worker, reason }
        }
        Ended::Refused { reason } => Error::Unknown { task, worker, reason },
        Ended::Unlimited => Error::Unsupported {
            what: "a time limit of a call that a worker makes in a thread is",
            remedy: "a thread cannot be stopped: let workers make calls in processes (`AmqpWorkerBuilder::processes`), or wait with \
                     a limit",
        },
    })
}

impl Sleep for AmqpContext {}

impl Context for AmqpContext {
    type Item = Call;

    fn initialize(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn run(&mut self, call: Call, seat: &Seat<'_, Call>) -> Result<(), Error> {
        // What was heard while there was nothing to do.
        while let Ok(heard) = self.heard.try_recv() {
            self.attend(heard, seat);
        }
        self.take(call);
        loop {
            self.fill(seat);
            if self.desk.table.lock().is_empty() {
                return Ok(());
            }
            if let Some(heard) = self.hear(seat) {
                self.attend(heard, seat);
            }
            if let Some(error) = self.verdict() {
                self.give_up(&error, seat);
            }
            self.look();
        }
    }

    fn finalize(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(worker: impl Into<String>, width: u32) -> ReplyHead {
        ReplyHead { worker: worker.into(), pid: 1, width, took: Duration::ZERO, ended: Ended::Value }
    }

    /// A thousand workers with calls of a minute: the first reply comes after a minute, and the next after another.
    #[test]
    fn the_window_follows_the_number_of_workers_and_not_how_often_they_answer() {
        let seen = Arc::new(Seen::default());
        let set = |workers| seen.workers.store(workers, Ordering::Relaxed);
        let mut crew = Crew::new(Arc::clone(&seen));
        assert_eq!(crew.window(), LEAST, "nobody has said anything");
        set(1_000);
        assert_eq!(crew.window(), 1_000 * LEAST, "none has answered");
        crew.note(&reply("one", 8));
        assert_eq!(crew.window(), 1_000 * 8 * EACH, "the others are taken to be as wide");
        crew.note(&reply("two", 24));
        assert_eq!(crew.window(), 1_000 * 16 * EACH, "as wide as the middle of those that answered");
        crew.note(&reply("two", 8));
        assert_eq!(crew.window(), 1_000 * 8 * EACH, "it was started again, with fewer threads");
        set(3);
        assert_eq!(crew.window(), 3 * 8 * EACH, "most have gone");
        set(0);
        assert_eq!(crew.window(), LEAST, "all have gone");
    }

    /// Each start of a worker is another name: a client that lives for months hears of many.
    #[test]
    fn those_that_are_gone_are_forgotten_and_numbers_are_not_given_twice() {
        let mut crew = Crew::new(Arc::default());
        crew.seen.workers.store(2, Ordering::Relaxed);
        for number in 0..10_000 {
            assert_eq!(crew.note(&reply(format!("worker-{number}"), 8)).number, number);
            assert!(crew.known.len() <= 2 * 2 + SPARE + 1);
            assert_eq!(crew.window(), 2 * 8 * EACH);
        }
        assert_eq!(crew.note(&reply("worker-9999", 8)).number, 9_999, "the last to answer is known");
    }
}
