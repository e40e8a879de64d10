//! The calls that one worker has in hand: sent to its child, and not ended.
//!
//! ```text
//!   queue ── begin ──▶ │ window: begun by the child? ─ yes ─▶ a reply, or it dies with the child │ ──▶ ended
//!     ▲                │                       └─── no ──┐                                       │
//!     └── taken back, or cancelled for good ◀────────────┘
//! ```
//!
//! | who                                          | may do to a call in a window                              |
//! |----------------------------------------------|-----------------------------------------------------------|
//! | the child                                    | begin it, in order (its claim, `lanes.rs`)                |
//! | the worker's thread                          | send it, end it, take it back if the child has not begun it |
//! | whoever cancels or kills it (`Engine`)       | take it back the same way, and end it cancelled           |
//! | whoever kills one that the child has begun   | have the child killed, if no later one is begun then      |
//!
//! Not here: when what is taken back (`context.rs`). The rule: a call is in the window from when it is started until
//! its end is certain, and all that changes that happens under the lock of the window. So a call that is killed is the
//! one that the child runs, and no other.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::call::{Call, Started};
use super::lanes::{CALLS, Claims, Lanes};
use super::remarks::Remarks;
use crate::account::{Account, Start};
use crate::id::{FutureId, TaskRef};
use crate::task::{Begun, PortableWork};

#[derive(Default)]
pub(super) struct Window {
    /// In the order in which they were sent.
    calls: VecDeque<InHand>,
    /// Those shared with the child that there is, unless calls go through the pipe.
    lanes: Option<Arc<Lanes>>,
    /// The number of the next call.
    next: u64,
    /// What all of them will take, in nanoseconds, as far as one knows.
    cost: u64,
    /// Bytes of calls and replies, since the worker was hired.
    sent: u64,
    received: u64,
}

struct InHand {
    id: FutureId,
    number: u64,
    cost: u64,
    /// Absent while it is being decided whether it is tried again.
    call: Option<Started>,
}

/// What came of an attempt to take back a call.
pub(super) enum Recalled {
    /// It has not run, and is the caller's.
    Back(Begun<dyn PortableWork>),
    /// The child has begun it.
    Begun,
}

impl Window {
    /// There is a new child, and no call in hand.
    pub(super) fn connect(&mut self, lanes: Option<Arc<Lanes>>) {
        self.lanes = lanes;
        self.next = 0;
    }

    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    pub(super) fn cost(&self) -> u64 {
        self.cost
    }

    /// Is the first still to be begun? Then whoever cancels it may take it, and nobody tells us.
    pub(super) fn is_to_begin(&self) -> bool {
        self.first_is(|claims, first| claims.is_open(first) || claims.is_taken(first))
    }

    /// Was the first taken back by somebody who had no use for it (`is_last`)? The child passes over it.
    pub(super) fn is_held_back(&self) -> bool {
        self.first_is(|claims, first| claims.is_taken(first))
    }

    fn first_is(&self, so: impl FnOnce(Claims<'_>, u64) -> bool) -> bool {
        let first = self.calls.front();
        first.zip(self.lanes.as_ref()).is_some_and(|(first, lanes)| so(lanes.claims(), first.number))
    }

    /// Has that call started? The first has, whether or not its child, which may stand still, has come to it: there
    /// is nothing else that it waits for. `None`: it is not here.
    pub(super) fn has_started(&self, id: FutureId) -> Option<bool> {
        let at = self.position(id)?;
        let is_open = |lanes: &Arc<Lanes>| lanes.claims().is_open(self.calls[at].number);
        Some(at == 0 || !self.lanes.as_ref().is_some_and(is_open))
    }

    /// The call of that number, if it has started. What a child says of others means nothing.
    pub(super) fn started(&self, id: u64) -> Option<TaskRef> {
        let in_hand = self.calls.iter().find(|call| call.id.get() == id)?;
        let started = in_hand.call.as_ref().filter(|_| self.has_started(in_hand.id) == Some(true))?;
        Some(started.call.task())
    }

    /// Tells the child that the call which it runs is not wanted any more, if it is that one.
    pub(super) fn unwant(&self, id: FutureId) {
        if self.has_started(id) == Some(true) {
            self.remark(|remarks| remarks.unwant(id.get()));
        }
    }

    /// The same of whatever it runs.
    pub(super) fn unwant_first(&self) {
        if let Some(first) = self.calls.front() {
            self.unwant(first.id);
        }
    }

    /// Has the call which the child runs asked whether it is wanted?
    pub(super) fn listens(&self) -> bool {
        self.calls
            .front()
            .is_some_and(|first| self.remark(|remarks| remarks.listens(first.id.get())) == Some(true))
    }

    fn remark<R>(&self, how: impl FnOnce(Remarks<'_>) -> R) -> Option<R> {
        self.lanes.as_ref().map(|lanes| how(lanes.remarks()))
    }

    /// How many more may be sent.
    pub(super) fn room(&self) -> usize {
        let first = self.calls.front().map_or(self.next, |call| call.number);
        (CALLS - self.next.saturating_sub(first).min(CALLS)) as usize
    }

    /// Starts a call; it is to be sent before the lock is given back, or announced. False: it was cancelled.
    pub(super) fn start(&mut self, call: Call, cost: u64) -> Option<&Started> {
        let Call { item, letter } = call;
        let id = item.task().id;
        let call = item.begin()?;
        let number = self.next;
        self.next += 1;
        if let Some(lanes) = &self.lanes {
            lanes.claims().open(number);
        }
        self.cost += cost;
        self.sent += letter.frame.len() as u64;
        self.calls.push_back(InHand { id, number, cost, call: Some(Started { call, letter }) });
        self.calls.back().and_then(|in_hand| in_hand.call.as_ref())
    }

    /// Takes out the call that was started last: the child has not been told of it, and will not be.
    pub(super) fn take_unsent(&mut self) -> Option<Started> {
        let last = self.calls.pop_back()?;
        self.cost -= last.cost;
        self.next = last.number;
        last.call
    }

    /// The first, if it is still here.
    pub(super) fn first(&mut self) -> Option<&mut Started> {
        self.calls.front_mut().and_then(|in_hand| in_hand.call.as_mut())
    }

    /// Takes out the call that the child has answered. `None`: it was not its turn.
    ///
    /// One that may be tried again stays in hand until `decided`. `bytes`: of the answer.
    pub(super) fn answered(&mut self, id: u64, bytes: usize) -> Option<Started> {
        let at = self.calls.iter().position(|call| call.id.get() == id)?;
        let was_begun =
            |call: &InHand| self.lanes.as_ref().is_none_or(|lanes| !lanes.claims().take(call.number));
        // All before it were taken back, and it was not.
        if self.calls.iter().take(at).any(was_begun) || !was_begun(&self.calls[at]) {
            return None;
        }
        self.received += bytes as u64;
        self.take_out(at)
    }

    /// Bytes that were sent and received.
    pub(super) fn traffic(&self) -> (u64, u64) {
        (self.sent, self.received)
    }

    /// Notes that the first was begun, at that time, if the child has done so. `Some`: which call and attempt it is;
    /// whoever asks tells.
    pub(super) fn note_start(&mut self, account: &Account, at: Instant) -> Option<(TaskRef, u32, Start)> {
        if self.is_to_begin() {
            return None;
        }
        let Started { call, letter } = self.first()?;
        let start = call.note_start(account, at)?;
        Some((call.task(), letter.attempt(), start))
    }

    fn take_out(&mut self, at: usize) -> Option<Started> {
        let in_hand = &mut self.calls[at];
        let started = in_hand.call.take();
        if started.as_ref().is_none_or(|started| started.letter.attempts.is_none()) {
            self.remove(at);
        }
        started
    }

    fn remove(&mut self, at: usize) {
        if let Some(in_hand) = self.calls.remove(at) {
            self.cost -= in_hand.cost;
        }
    }

    /// It is decided what becomes of that call.
    pub(super) fn decided(&mut self, id: FutureId) {
        if let Some(at) = self.position(id) {
            self.remove(at);
        }
    }

    /// Takes back all that the child has not begun, in order.
    pub(super) fn take_back(&mut self) -> Vec<Call> {
        self.take_back_behind(0)
    }

    /// The same, but for so many at the head of the line.
    pub(super) fn take_back_behind(&mut self, first: usize) -> Vec<Call> {
        let Some(lanes) = self.lanes.clone() else { return Vec::new() };
        self.take_back_if(first, |number| lanes.claims().take(number))
    }

    /// Takes back those that have not run, as the caller says.
    pub(super) fn take_back_if(&mut self, first: usize, has_not_run: impl Fn(u64) -> bool) -> Vec<Call> {
        let mut back = Vec::new();
        // The last first: the child, which begins them in order, finds the next one taken too, and none behind it.
        for at in (first..self.calls.len()).rev() {
            let in_hand = &mut self.calls[at];
            if in_hand.call.is_some() && has_not_run(in_hand.number) {
                if let Some(Started { call, letter }) = in_hand.call.take() {
                    back.push(Call { item: call.put_back(), letter });
                }
                self.remove(at);
            }
        }
        back.reverse();
        back
    }

    /// Of a child that is gone: what it died of, or the first that it did not begin; and the number of its attempt.
    pub(super) fn victim(&self, took_call: bool) -> Option<(TaskRef, u32)> {
        let was_begun = |in_hand: &&InHand| match &self.lanes {
            Some(lanes) => !lanes.claims().take(in_hand.number),
            None => took_call,
        };
        let in_hand = self.calls.iter().find(was_begun).or(self.calls.front())?;
        in_hand.call.as_ref().map(|started| (started.call.task(), started.letter.attempt()))
    }

    /// Takes out what is left when the child is gone.
    pub(super) fn take_all(&mut self) -> Vec<Started> {
        let mut all = Vec::new();
        let mut at = 0;
        while at < self.calls.len() {
            let before = self.calls.len();
            all.extend(self.take_out(at));
            at += usize::from(self.calls.len() == before);
        }
        all
    }

    fn position(&self, id: FutureId) -> Option<usize> {
        self.calls.iter().position(|call| call.id == id)
    }

    /// Takes back that call, if it is here and the child has not begun it.
    pub(super) fn recall(&mut self, id: FutureId) -> Option<Recalled> {
        let at = self.position(id)?;
        let in_hand = &mut self.calls[at];
        let is_back = self.lanes.as_ref().is_some_and(|lanes| lanes.claims().take(in_hand.number));
        match in_hand.call.take_if(|_| is_back) {
            Some(Started { call, .. }) => {
                self.remove(at);
                Some(Recalled::Back(call))
            }
            None => Some(Recalled::Begun),
        }
    }

    /// Of a call that the child has begun: is it the one that it runs? Then it begins no other.
    pub(super) fn is_last(&mut self, id: FutureId) -> bool {
        let Some(at) = self.position(id) else { return false };
        let lanes = &self.lanes;
        let is_back = |call: &InHand| lanes.as_ref().is_some_and(|lanes| lanes.claims().take(call.number));
        // All of them, the last first, whatever is found.
        self.calls.iter().skip(at + 1).rev().filter(|call| !is_back(call)).count() == 0
    }
}
