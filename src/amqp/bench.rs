//! What an AMQP worker has in hand, from one session with the broker to the next. No I/O: it is told what happens, and
//! says what is to be done.
//!
//! ```text
//!   take ──▶ waiting ── begin ──▶ running ── end ──▶ outgoing: the reply ── confirmed ──▶ the delivery is acknowledged
//!              │  │                  │
//!              │  └── suspect ──▶ begins alone
//!              │                     └─ renew ────▶ outgoing: a copy to a queue of our own ── confirmed ──▶ acknowledged
//!              └── given back ────────────────────▶ outgoing: a copy to the queue of calls ── confirmed ──▶ acknowledged
//! ```
//!
//! | a delivery                                                   | what is done with it                                 |
//! |--------------------------------------------------------------|------------------------------------------------------|
//! | of a call that is in hand                                    | is another receipt for it: acknowledged with it      |
//! | of a call whose reply is on its way, and that comes again    | the same                                             |
//! | a copy that we put by, of a call that is over                | is acknowledged                                      |
//! | that another worker had and did not come back from           | goes back to the end of the queue, one death richer  |
//! | that so many had and did not come back from                  | is answered, and not made                            |
//! | that some had: a suspect                                     | is made when nothing else is: it may be what they died of |
//! | of an unknown function, of other types, with a limit where there can be none | is answered                          |
//! | that is no call                                              | is acknowledged                                      |
//! | any other                                                    | waits for its turn                                   |
//!
//! A broker flags what it delivers again, and does not say why: the worker that had it may have died of it, or beside it,
//! or only lost its connection. What this worker had not begun when it lost its own, it knows, and does not count. With
//! what remains a call that is innocent may be seen twice beside one that kills; from then on it is made alone, and so is
//! the other.
//!
//! Not here: connections and queues (`shift.rs`). The rule: a delivery is acknowledged once, in the session that it is of,
//! and not before the broker answers for what takes its place.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lapin::types::ShortString;

use super::list::List;
use super::message::{self, Ended, ReplyHead, TaskHead};
use super::settings::{Settings, USUAL, refused_as_too_long};
use crate::wire::message::{Failure, FunctionRef};

/// So many workers have not come back from a suspect. One death is too few: who dies takes along all that it had, and each
/// of those would be made alone.
const SUSPICIOUS: u32 = 2;

/// The most that is remembered of what was not begun when a session ended.
const REMEMBERED: usize = 4096;

/// On what terms a worker works.
pub(super) struct Terms {
    /// What it is called.
    pub(super) name: String,
    /// So many calls at a time.
    pub(super) width: usize,
    /// Can its calls have limits of time?
    pub(super) has_limits: bool,
    /// So many workers may have a call and not come back.
    pub(super) delivery_limit: u32,
    /// A delivery is not held for longer.
    pub(super) renew_every: Duration,
}

impl Terms {
    /// The head of what a client is told.
    fn head(&self, took: Duration, ended: Ended) -> ReplyHead {
        let width = u32::try_from(self.width).unwrap_or(u32::MAX);
        ReplyHead { worker: self.name.clone(), pid: std::process::id(), width, took, ended }
    }
}

/// Which attempt of which call of whom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) reply_to: ShortString,
    pub(super) id: ShortString,
    pub(super) attempt: u32,
}

/// Whence a delivery came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum From {
    /// The queue of calls.
    Tasks,
    /// The queue of our own, for copies of calls that take long.
    Held,
}

/// A delivery that is to be acknowledged, in its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Receipt {
    session: u64,
    pub(super) from: From,
    pub(super) tag: u64,
}

/// What the broker delivers.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) from: From,
    pub(super) tag: u64,
    /// Somebody had it before.
    pub(super) redelivered: bool,
    /// It is a copy that a worker had put by, and did not come back for.
    pub(super) is_left: bool,
    pub(super) reply_to: Option<ShortString>,
    pub(super) id: Option<ShortString>,
    pub(super) priority: u8,
    pub(super) body: Vec<u8>,
}

/// Where something goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    Client,
    Tasks,
    Held,
}

/// What is published.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) to: To,
    pub(super) key: Key,
    pub(super) priority: u8,
    pub(super) body: Vec<u8>,
    /// Of a copy.
    deaths: u32,
}

/// What a client is told that waits for long: its call is still in hand.
pub(super) struct News {
    pub(super) key: Key,
    pub(super) body: Vec<u8>,
}

/// What is to be published, or was and is not confirmed, and what can be acknowledged when it is.
struct Outgoing {
    letter: Arc<Letter>,
    receipts: Vec<Receipt>,
}

/// A call that is to be made now.
pub(super) struct Begin {
    pub(super) key: Key,
    pub(super) function: FunctionRef,
    pub(super) argument: Arc<Vec<u8>>,
    pub(super) limit: Option<Duration>,
    /// A worker has not come back from it: it may be the end of this one, so all that was acknowledged is to be at the broker.
    pub(super) may_kill: bool,
}

/// How a call ended here.
#[derive(Debug)]
pub(super) enum Finish {
    Value(Vec<u8>),
    Without(Ended),
    /// It was not made to its end, and another worker is to have it.
    NotMade {
        /// It may have been the reason.
        counts: bool,
    },
}

/// A call in hand.
struct Call {
    key: Key,
    /// Of the deliveries of this session that stand for it.
    receipts: Vec<Receipt>,
    /// Of the oldest of them.
    since: Instant,
    /// When its client was last told that we have it, or when it came.
    told: Instant,
    head: TaskHead,
    argument: Arc<Vec<u8>>,
    function: FunctionRef,
    priority: u8,
    /// A copy is being put by; when that is confirmed, it stands for the call.
    is_copying: bool,
    /// That copy has not been delivered to us.
    is_under_way: bool,
}

pub(super) struct Bench<'l> {
    terms: &'l Terms,
    settings: &'l Settings,
    list: &'l List,
    session: u64,
    /// Are deliveries from the queue of calls to be expected?
    is_open: bool,
    is_stopping: bool,
    waiting: VecDeque<Call>,
    /// To be made alone.
    suspect: Option<Call>,
    /// A suspect is being made.
    is_alone: bool,
    /// And since when they run.
    running: HashMap<Key, (Call, Instant)>,
    /// By numbers of their own, in the order in which they came about.
    outgoing: BTreeMap<u64, Outgoing>,
    /// Those of it that this session has not been given yet.
    unsent: Vec<u64>,
    next: u64,
    /// To be acknowledged now.
    due: Vec<Receipt>,
    /// What was taken and not begun when a session ended, and how many workers had not come back from it by then.
    spared: HashMap<Key, u32>,
    /// The same in the order in which it came about.
    spared_first: VecDeque<Key>,
    /// Calls that are over, and of which a copy is still to come.
    strays: HashSet<Key>,
}

impl<'l> Bench<'l> {
    pub(super) fn new(terms: &'l Terms, settings: &'l Settings, list: &'l List) -> Self {
        Bench {
            terms,
            settings,
            list,
            session: 0,
            is_open: false,
            is_stopping: false,
            waiting: VecDeque::new(),
            suspect: None,
            is_alone: false,
            running: HashMap::new(),
            outgoing: BTreeMap::new(),
            unsent: Vec::new(),
            next: 0,
            due: Vec::new(),
            spared: HashMap::new(),
            spared_first: VecDeque::new(),
            strays: HashSet::new(),
        }
    }

    /// There is a session. What was not confirmed in the one before is published again.
    pub(super) fn open(&mut self) {
        self.session += 1;
        self.unsent = self.outgoing.keys().copied().collect();
    }

    /// The session is over: what has not begun is delivered to somebody again, and so is what copies were to stand for.
    pub(super) fn lose(&mut self) {
        self.is_open = false;
        self.due.clear();
        self.unsent.clear();
        let mut kept = BTreeMap::new();
        for (number, Outgoing { letter, .. }) in std::mem::take(&mut self.outgoing) {
            match letter.to {
                To::Client => drop(kept.insert(number, Outgoing { letter, receipts: Vec::new() })),
                To::Tasks => {
                    // If it was copied, that is all there is of it: it is no stray any more.
                    self.strays.remove(&letter.key);
                    self.spare(letter.key.clone(), letter.deaths);
                }
                To::Held => {}
            }
        }
        self.outgoing = kept;
        let lost: Vec<Call> = self.waiting.drain(..).chain(self.suspect.take()).collect();
        for call in lost {
            self.spare(call.key, call.head.deaths);
        }
        for (call, _) in self.running.values_mut() {
            call.receipts.clear();
            // Whether that copy is there is not known; what it was made of is delivered again.
            call.is_under_way &= !call.is_copying;
            call.is_copying = false;
        }
    }

    /// Nothing more is taken, and what has not begun is given back.
    pub(super) fn stop(&mut self) {
        self.is_stopping = true;
    }

    /// Is more to be taken?
    pub(super) fn wants_more(&self) -> bool {
        !self.is_stopping && self.suspect.is_none() && !self.is_alone
    }

    /// Says whether deliveries from the queue of calls are to be expected from now on.
    pub(super) fn set_open(&mut self, is_open: bool) {
        self.is_open = is_open;
    }

    /// Is there nothing left to do?
    pub(super) fn is_clear(&self) -> bool {
        self.running.is_empty()
            && self.outgoing.is_empty()
            && self.due.is_empty()
            && self.waiting.is_empty()
            && self.suspect.is_none()
    }

    /// How many calls run.
    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    /// How many replies are not confirmed.
    pub(super) fn unanswered(&self) -> usize {
        self.outgoing.values().filter(|outgoing| outgoing.letter.to == To::Client).count()
    }

    /// What is to be published in this session, each once.
    pub(super) fn take_unsent(&mut self) -> Vec<(u64, Arc<Letter>)> {
        let letter = |number| Some((number, Arc::clone(&self.outgoing.get(&number)?.letter)));
        std::mem::take(&mut self.unsent).into_iter().filter_map(letter).collect()
    }

    /// What is to be acknowledged in this session, each once.
    pub(super) fn take_due(&mut self) -> Vec<Receipt> {
        std::mem::take(&mut self.due)
    }

    /// The broker answers for that letter.
    pub(super) fn confirmed(&mut self, number: u64) {
        let Some(Outgoing { letter, receipts }) = self.outgoing.remove(&number) else { return };
        self.due.extend(receipts);
        if letter.to == To::Held
            && let Some(call) = self.in_hand(&letter.key)
        {
            call.is_copying = false;
        }
    }

    fn in_hand(&mut self, key: &Key) -> Option<&mut Call> {
        let running = self.running.get_mut(key).map(|(call, _)| call);
        running
            .or_else(|| self.suspect.as_mut().filter(|call| call.key == *key))
            .or_else(|| self.waiting.iter_mut().find(|call| call.key == *key))
    }

    fn put(&mut self, letter: Letter, receipts: Vec<Receipt>) {
        self.next += 1;
        self.outgoing.insert(self.next, Outgoing { letter: Arc::new(letter), receipts });
        self.unsent.push(self.next);
    }

    /// To the end of the queue.
    fn give_back(&mut self, call: Call) {
        if call.receipts.is_empty() && !call.is_copying && !call.is_under_way {
            // Its delivery was of a session that is over, so somebody else has it.
            return;
        }
        let Call { key, receipts, head, argument, priority, is_under_way, .. } = call;
        if is_under_way {
            self.strays.insert(key.clone());
        }
        let mut body = Arc::unwrap_or_clone(argument);
        message::finish(&mut body, &head);
        self.put(Letter { to: To::Tasks, key, priority, body, deaths: head.deaths }, receipts);
    }

    fn answer(&mut self, key: Key, receipts: Vec<Receipt>, took: Duration, ended: Ended, value: Vec<u8>) {
        let mut body = value;
        message::finish(&mut body, &self.terms.head(took, ended));
        if let Some(reason) = self.settings.too_long(body.len()) {
            let failure = Failure::Unencodable { what: "return value".into(), reason };
            body.clear();
            message::finish(&mut body, &self.terms.head(took, Ended::Failed(failure)));
        }
        self.put(Letter { to: To::Client, key, priority: USUAL, body, deaths: 0 }, receipts);
    }

    /// The broker takes no message of that length: the longest reply that is not confirmed becomes one that says so.
    pub(super) fn shorten(&mut self, reason: &str) {
        let replies = self.outgoing.iter().filter(|(_, outgoing)| outgoing.letter.to == To::Client);
        let Some(number) =
            replies.max_by_key(|(_, outgoing)| outgoing.letter.body.len()).map(|(number, _)| *number)
        else {
            return;
        };
        let Some(Outgoing { letter, receipts }) = self.outgoing.remove(&number) else { return };
        let failure =
            Failure::Unencodable { what: "return value".into(), reason: refused_as_too_long(reason) };
        self.answer(letter.key.clone(), receipts, Duration::ZERO, Ended::Failed(failure), Vec::new());
    }

    pub(super) fn take(&mut self, arrival: Arrival, now: Instant) {
        let Arrival { from, tag, redelivered, is_left, reply_to, id, priority, mut body } = arrival;
        let receipt = Receipt { session: self.session, from, tag };
        let (Some(reply_to), Some(id)) = (reply_to, id) else {
            // It is no call of ours, and nobody waits for an answer.
            return self.due.push(receipt);
        };
        let mut head = match message::open::<TaskHead>(&mut body) {
            Ok(head) => head,
            Err(error) => {
                let refused = Ended::Refused { reason: error.to_string() };
                let key = Key { reply_to, id, attempt: 0 };
                return self.answer(key, vec![receipt], Duration::ZERO, refused, Vec::new());
            }
        };
        let key = Key { reply_to, id, attempt: head.attempt };
        if let Some(call) = self.in_hand(&key) {
            if call.receipts.is_empty() {
                call.since = now;
            }
            call.receipts.push(receipt);
            call.head.deaths = call.head.deaths.max(head.deaths);
            call.is_under_way &= from != From::Held;
            return;
        }
        // A client that sends a call again has lost what was said to it so far, and is to hear of it again. What comes again
        // may be what we have just given back; a copy that was put by is not.
        let is_copy = is_left || from == From::Held;
        if redelivered || is_copy {
            let stands_for_it = |letter: &Letter| {
                letter.key == key && (letter.to == To::Client || (letter.to == To::Tasks && is_copy))
            };
            if let Some(outgoing) = self.outgoing.values_mut().find(|its| stands_for_it(&its.letter)) {
                outgoing.receipts.push(receipt);
                return;
            }
            if is_copy && self.strays.remove(&key) {
                return self.due.push(receipt);
            }
        }
        let answer = |bench: &mut Self, ended| {
            bench.answer(key.clone(), vec![receipt], Duration::ZERO, ended, Vec::new());
        };
        let function = match self.list.find(&head) {
            Ok(function) => function,
            Err(ended) => return answer(self, ended),
        };
        if head.limit.is_some() && !self.terms.has_limits {
            return answer(self, Ended::Unlimited);
        }
        let written = head.deaths;
        head.deaths = match self.spared.remove(&key) {
            Some(deaths) => deaths.max(written),
            // Nobody but us has a copy from there.
            None => written.saturating_add(u32::from((redelivered && from == From::Tasks) || is_left)),
        };
        let deaths = head.deaths;
        if deaths >= self.terms.delivery_limit {
            return answer(self, Ended::Poisonous { deaths });
        }
        let is_suspect = deaths >= SUSPICIOUS.min(self.terms.delivery_limit - 1).max(1);
        let call = Call {
            key,
            receipts: vec![receipt],
            since: now,
            told: now,
            head,
            argument: Arc::new(body),
            function,
            priority,
            is_copying: false,
            is_under_way: false,
        };
        let is_one_too_many = is_suspect && (self.suspect.is_some() || self.is_alone || self.is_stopping);
        if deaths > written || (is_one_too_many && !self.is_open) {
            self.give_back(call);
        } else if is_suspect && !is_one_too_many {
            self.suspect = Some(call);
        } else {
            // A suspect too many goes back with all that waits, when nothing more comes: it would come again at once.
            self.waiting.push_back(call);
        }
    }

    fn spare(&mut self, key: Key, deaths: u32) {
        if self.spared.insert(key.clone(), deaths).is_none() {
            self.spared_first.push_back(key);
        }
        while self.spared_first.len() > REMEMBERED {
            if let Some(key) = self.spared_first.pop_front() {
                self.spared.remove(&key);
            }
        }
    }

    /// Gives back what nobody is to begin here, once nothing more comes.
    pub(super) fn tidy(&mut self) {
        if self.is_open || self.wants_more() {
            return;
        }
        for call in std::mem::take(&mut self.waiting) {
            self.give_back(call);
        }
        if self.is_stopping
            && let Some(call) = self.suspect.take()
        {
            self.give_back(call);
        }
    }

    /// What is to be made now, each once.
    pub(super) fn begin(&mut self, now: Instant) -> Vec<Begin> {
        let mut begun = Vec::new();
        self.is_alone &= !self.running.is_empty();
        if self.is_stopping {
            return begun;
        }
        if self.suspect.is_some() {
            // Nothing else is to be flagged, should this be the end of us.
            let is_quiet = self.running.is_empty()
                && self.waiting.is_empty()
                && self.outgoing.is_empty()
                && self.due.is_empty();
            if is_quiet
                && !self.is_open
                && let Some(call) = self.suspect.take()
            {
                self.is_alone = true;
                begun.push(self.run(call, now));
            }
            return begun;
        }
        let is_settled =
            self.due.is_empty() && self.outgoing.values().all(|outgoing| outgoing.letter.to == To::Client);
        // What was given back would be there twice if this were the end of us now, and one death would count for both.
        let may_begin = |call: &Call| call.head.deaths == 0 || is_settled;
        while !self.is_alone
            && self.running.len() < self.terms.width
            && let Some(call) = self.waiting.pop_front()
        {
            if !may_begin(&call) {
                self.waiting.push_front(call);
                break;
            }
            begun.push(self.run(call, now));
        }
        begun
    }

    fn run(&mut self, call: Call, now: Instant) -> Begin {
        let begin = Begin {
            key: call.key.clone(),
            function: call.function,
            argument: Arc::clone(&call.argument),
            limit: call.head.limit,
            may_kill: call.head.deaths > 0,
        };
        self.running.insert(call.key.clone(), (call, now));
        begin
    }

    /// A call has ended.
    pub(super) fn end(&mut self, key: &Key, finish: Finish, now: Instant) {
        let Some((mut call, begun)) = self.running.remove(key) else { return };
        let took = now.saturating_duration_since(begun);
        let (ended, value) = match finish {
            Finish::Value(value) => (Ended::Value, value),
            Finish::Without(ended) => (ended, Vec::new()),
            Finish::NotMade { counts } => {
                call.head.deaths = call.head.deaths.saturating_add(u32::from(counts));
                return self.give_back(call);
            }
        };
        if call.is_under_way {
            self.strays.insert(call.key.clone());
        }
        self.answer(call.key, call.receipts, took, ended, value);
    }

    /// Says of what is in hand for long that it is, to those who wait for it: each as often as its client wants to hear. That
    /// is not worth being said again, should it be lost.
    pub(super) fn tell(&mut self, now: Instant) -> Vec<News> {
        let running = self.running.values_mut().map(|(call, _)| call);
        let all = running.chain(&mut self.suspect).chain(&mut self.waiting);
        let due = all.filter(|call| now.saturating_duration_since(call.told) >= call.head.tell_every);
        let mut all_news = Vec::new();
        for call in due {
            call.told = now;
            let mut body = Vec::new();
            message::finish(&mut body, &self.terms.head(Duration::ZERO, Ended::NotYet));
            all_news.push(News { key: call.key.clone(), body });
        }
        all_news
    }

    /// A broker takes a delivery back that is not acknowledged for too long. So what waits for too long goes back to the
    /// queue, and of what runs a copy takes the place of its delivery, and is delivered to us at once.
    pub(super) fn renew(&mut self, now: Instant) {
        let every = self.terms.renew_every;
        let is_due =
            |call: &Call| !call.receipts.is_empty() && now.saturating_duration_since(call.since) >= every;
        let (due, waiting): (VecDeque<_>, _) =
            std::mem::take(&mut self.waiting).into_iter().partition(is_due);
        self.waiting = waiting;
        due.into_iter().for_each(|call| self.give_back(call));
        let running = self.running.values_mut().map(|(call, _)| call).chain(&mut self.suspect);
        let mut copies = Vec::new();
        for call in running.filter(|call| is_due(call) && !call.is_copying && !call.is_under_way) {
            (call.is_copying, call.is_under_way) = (true, true);
            let mut body = Vec::clone(&call.argument);
            message::finish(&mut body, &call.head);
            let (key, deaths) = (call.key.clone(), call.head.deaths);
            let letter = Letter { to: To::Held, key, priority: call.priority, body, deaths };
            copies.push((letter, std::mem::take(&mut call.receipts)));
        }
        copies.into_iter().for_each(|(letter, receipts)| self.put(letter, receipts));
    }
}

#[cfg(test)]
mod tests;
