//! A worker's thread, between two calls: how it lies down in its berth, sleeps there, and gets up.
//!
//! It lies down while its last call ends, before anybody is told of that end: so whoever waited for it, and hands in the
//! next, finds it there. It gets up for what the queue brings, and for what those who work in its place leave to it.
//!
//! Not here: what others do meanwhile (`berth.rs`). The rule: who sleeps here is woken by its bell, by the child's bell,
//! and by the child's end; and one that was woken for nothing gets up, so that nothing wakes it again and again.

use std::cell::RefCell;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::berth::Lying;
use super::call::{Call, Started};
use super::child::Child;
use super::context::{ProcessContext, TINY};
use super::pace::Pace;
use super::slot::Slot;
use crate::error::Error;
use crate::future::state::Freed;
use crate::pool::{Seat, Sleep};
use crate::primitives::{Ordering, Parker};
use crate::task::Reply;

impl ProcessContext {
    /// Ends the call beside which there is no other. If nobody's code runs then, the worker lies down before it is told,
    /// so that it can be lent for the next one.
    pub(super) fn complete_last(&mut self, mut started: Started, seat: &Seat<'_, Call>) {
        let Some(mut child) = self.child.take() else { return };
        // The next one is probably as this one: one that is long, or answered at length, needs its thread.
        let may_be_lent = self.plan.singles.load(Ordering::Relaxed)
            && started.letter.may_be_posted(&self.plan)
            && child.was_heard_in_page()
            && self.pace.of(&started.letter.frame).is_some_and(|pace| pace <= TINY)
            && self.slot.is_sound()
            && self.has_alarm(seat);
        if !may_be_lent {
            started.call.complete(child.reply_to(&mut started.letter), seat);
            self.child = Some(child);
            return;
        }
        let Reply { bytes, received } = child.reply_to(&mut started.letter);
        let mut bytes = std::mem::take(bytes);
        self.news = Some(child.connection.reader().get_ref().news());
        let lying = LieDown {
            slot: &self.slot,
            seat,
            own: RefCell::new(Some((child, std::mem::take(&mut self.pace)))),
        };
        started.call.complete(Reply { bytes: &mut bytes, received }, &lying);
        if let Some((child, pace)) = lying.own.into_inner() {
            self.child = Some(child);
            self.pace = pace;
            self.news = None;
        }
    }

    /// Has its bell make something readable.
    fn has_alarm(&mut self, seat: &Seat<'_, Call>) -> bool {
        #[cfg(target_os = "linux")]
        if self.alarm.is_none() {
            use rustix::event::{EventfdFlags, eventfd};
            let Ok(alarm) = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map(Arc::new) else {
                return false;
            };
            let rung = Arc::clone(&alarm);
            seat.bell().set_alarm(move || {
                // If it was rung so often that it can count no further, it was rung.
                let _ = rustix::io::write(&rung, &1_u64.to_ne_bytes());
            });
            self.alarm = Some(alarm);
        }
        let _ = seat;
        self.alarm.is_some()
    }

    /// Has its child in hand again.
    fn rise(&mut self, lying: Lying) -> &mut Child {
        self.news = None;
        self.pace = lying.pace;
        self.child.insert(lying.child)
    }

    /// It was woken while it is lent.
    pub(super) fn go_on_from_berth(&mut self, seat: &Seat<'_, Call>) -> Result<(), Error> {
        let Some(mut lying) = self.slot.berth.get_up_for_call() else {
            // Somebody is about to post it, or to say that it is over.
            std::thread::sleep(Duration::from_micros(50));
            return Ok(());
        };
        seat.reclaim();
        let heard = lying.heard.take();
        self.low = 0;
        self.rise(lying).ring();
        if let Some(heard) = heard {
            self.attend(heard, None, None, seat)?;
        }
        self.go_on(true, None, None, seat)
    }
}

/// A worker with its last call in hand. When it is as good as idle, it lies down.
struct LieDown<'a> {
    slot: &'a Slot,
    seat: &'a Seat<'a, Call>,
    own: RefCell<Option<(Child, Pace)>>,
}

impl Freed for LieDown<'_> {
    fn is_wanted(&self) -> bool {
        self.seat.has_seen_the_last() || self.seat.is_wanted()
    }

    fn free(&self) {
        let Some((mut child, pace)) = self.own.take() else { return };
        if !child.is_quiet() {
            self.own.replace(Some((child, pace)));
            return self.seat.free();
        }
        self.slot.berth.lie_down(child, pace, self.seat.bell());
        if !self.seat.lie_down() {
            // Nobody has been told of it.
            self.own.replace(self.slot.berth.get_up().map(|lying| (lying.child, lying.pace)));
            self.seat.free();
        }
    }
}

impl Sleep for ProcessContext {
    fn sleep(&mut self, bell: &Parker, until: Option<Instant>) -> bool {
        let Some((news, alarm)) = self.news.as_ref().zip(self.alarm.as_ref()) else {
            return bell.park(until);
        };
        let in_time = news.wait(alarm.as_fd(), until);
        bell.hear();
        let _ = rustix::io::read(alarm, &mut [0; 8]);
        in_time
    }

    fn get_up(&mut self) {
        if let Some(lying) = self.slot.berth.get_up() {
            self.rise(lying);
        }
    }
}
