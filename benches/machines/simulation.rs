//! The round of `model.rs`, played event by event in time that is only counted: with everything that the arithmetic leaves
//! out, waiting in queues, lengths that differ, workers that are served in turn, the window that opens when the first
//! replies are heard.
//!
//! ```text
//!            ┌ client ┐  delay  ┌ link in, broker ┐ commit ┌ queue ┐  link out, delay  ┌ worker's I/O ┐   ┌ threads ┐
//!   window ─▶│ thread │────────▶│  in their order │───────▶│ tasks │──────────────────▶│   one each   │──▶│ T each  │─┐
//!            └────────┘         └─────────────────┘        └───────┘   prefetch > 0    └──────────────┘   └─────────┘ │
//!               ▲   delay, link out  ┌ link in, broker ┐    delay                       ┌ worker's I/O ┐              │
//!               └────────────────────│  in their order │◀───────────────────────────────│   one each   │◀─────────────┘
//!                                    └─────────────────┘── confirm, delay, delay ──▶ one more may be taken
//! ```
//!
//! Nothing is real: no clock, no thread, no chance but a seeded one. So the same site gives the same figures everywhere.
//!
//! Not here: what a site and its costs are. The rule: a place serves whoever came first, and whatever it does for a message
//! is in [`Costs`](crate::model::Costs).

#![allow(dead_code, reason = "bench, page and tests use a part of it each")]

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::model::{Call, Site};

/// How the lengths of calls differ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Lengths {
    /// Between three quarters and five quarters of the middle: none is quite like another.
    Alike,
    /// Most are short, few are long: exponential.
    Wild,
}

/// What came out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    /// Calls a second, when all is under way.
    pub(crate) rate: f64,
    /// How much of their time the threads worked.
    pub(crate) efficiency: f64,
    /// From when a call is sent until its reply is here, on average.
    pub(crate) round: f64,
    /// When as many calls were in hand as ever.
    pub(crate) full: f64,
}

/// When something happens, in nanoseconds; and in which order, of what happens at one time.
type Due = Reverse<(u64, u64)>;

#[derive(Clone, Copy, Debug)]
enum Event {
    /// A call reaches the broker, or its reply does.
    Task(usize),
    Reply(usize),
    /// It is in the queue of tasks, or its reply is in that of replies.
    Queued(usize),
    Answered(usize),
    /// It has reached its worker, its worker has read it, a thread has ended it.
    Arrives(usize),
    Taken(usize),
    Ended(usize),
    /// Its reply has reached the client, and is read.
    Back(usize),
    Heard(usize),
    /// Its acknowledgement is with the broker.
    Room(usize),
}

struct Worker {
    /// Its I/O is busy until then.
    io: f64,
    /// Free threads, and what waits for one.
    free: usize,
    waiting: VecDeque<usize>,
    /// How many it may be given.
    room: usize,
}

/// A place that serves one after the other: when it is free.
fn pass(free: &mut f64, now: f64, takes: f64) -> f64 {
    *free = free.max(now) + takes;
    *free
}

pub(crate) struct Simulation {
    site: Site,
    call: Call,
    lengths: Lengths,
    now: f64,
    order: u64,
    due: BinaryHeap<(Due, usize)>,
    events: Vec<Event>,
    spare: Vec<usize>,
    random: u64,
    client: f64,
    broker: f64,
    link_in: f64,
    link_out: f64,
    ready: VecDeque<usize>,
    /// Workers with room, in turn.
    turn: VecDeque<usize>,
    workers: Vec<Worker>,
    /// Of each call: its worker, when it was sent, how long it runs.
    calls: Vec<(usize, f64, f64)>,
    in_hand: usize,
    /// Has the client heard of the crew?
    knows: bool,
}

impl Simulation {
    pub(crate) fn new(site: Site, lengths: Lengths, seed: u64) -> Self {
        let worker =
            || Worker { io: 0.0, free: site.threads, waiting: VecDeque::new(), room: site.prefetch() };
        Simulation {
            call: site.call(),
            lengths,
            now: 0.0,
            order: 0,
            due: BinaryHeap::new(),
            events: Vec::new(),
            spare: Vec::new(),
            random: seed | 1,
            client: 0.0,
            broker: 0.0,
            link_in: 0.0,
            link_out: 0.0,
            ready: VecDeque::new(),
            turn: (0..site.workers).collect(),
            workers: (0..site.workers).map(|_| worker()).collect(),
            calls: Vec::new(),
            in_hand: 0,
            knows: false,
            site,
        }
    }

    /// Makes so many calls for each that can be in hand, and half as many before it measures.
    pub(crate) fn run(mut self, rounds: usize) -> Outcome {
        let unit = self.site.in_hand().max(1_000);
        let (skipped, all) = (unit * rounds.div_ceil(2), unit * (rounds + rounds.div_ceil(2)));
        let (mut done, mut since, mut under_way) = (0, 0.0, 0.0);
        let (mut worked, mut most, mut full) = (0.0, 0, 0.0);
        self.fill();
        while done < all {
            let (Reverse((at, _)), slot) =
                self.due.pop().expect("something happens as long as calls are out");
            self.now = at as f64 / 1e9;
            let event = self.events[slot];
            self.spare.push(slot);
            match event {
                Event::Heard(call) => {
                    let (_, sent, length) = self.calls[call];
                    done += 1;
                    if done == skipped {
                        since = self.now;
                    } else if done > skipped {
                        under_way += self.now - sent;
                        worked += length;
                    }
                    self.in_hand -= 1;
                    self.knows = true;
                    self.fill();
                }
                event => self.happens(event),
            }
            if self.in_hand > most {
                (most, full) = (self.in_hand, self.now);
            }
        }
        let time = self.now - since;
        let calls = (all - skipped) as f64;
        Outcome {
            rate: calls / time,
            efficiency: worked / time / self.site.slots() as f64,
            round: under_way / calls,
            full,
        }
    }

    fn at(&mut self, when: f64, event: Event) {
        let slot = self.spare.pop().unwrap_or(self.events.len());
        if slot == self.events.len() {
            self.events.push(event);
        } else {
            self.events[slot] = event;
        }
        self.order += 1;
        self.due.push((Reverse(((when * 1e9) as u64, self.order)), slot));
    }

    /// The client sends what there is room for: 16 for each worker that the broker knows of, until one has answered.
    fn fill(&mut self) {
        let window = match self.site.window {
            Some(window) => window,
            None if self.knows => self.site.in_hand(),
            None => self.site.workers * 16,
        };
        while self.in_hand < window {
            self.in_hand += 1;
            // Half of what the client does for a call is done now, half when it is back.
            let sent = pass(&mut self.client, self.now, self.call.client / 2.0);
            let length = self.draw();
            self.calls.push((0, self.now, length));
            self.at(sent + self.site.costs.delay, Event::Task(self.calls.len() - 1));
        }
    }

    fn draw(&mut self) -> f64 {
        // xorshift64*
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let bits = self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11;
        let chance = (bits as f64 + 0.5) / (1_u64 << 53) as f64;
        self.call.length
            * match self.lengths {
                Lengths::Alike => 0.75 + chance / 2.0,
                Lengths::Wild => -chance.ln(),
            }
    }

    fn happens(&mut self, event: Event) {
        let (call, costs) = (self.call, self.site.costs);
        // Each half of a call, there and back, has half of the broker's work, and the bytes go through in and out once.
        match event {
            Event::Task(number) => {
                let share = self.site.argument / (self.site.argument + self.site.value).max(1.0);
                let read = pass(&mut self.link_in, self.now, call.link * share);
                let served = pass(&mut self.broker, read, call.broker / 2.0);
                self.at(served + costs.commit, Event::Queued(number));
            }
            Event::Queued(number) => {
                self.ready.push_back(number);
                self.deliver();
            }
            Event::Arrives(number) => {
                let io = &mut self.workers[self.calls[number].0].io;
                let read = pass(io, self.now, call.worker / 2.0);
                self.at(read, Event::Taken(number));
            }
            Event::Taken(number) => {
                let worker = &mut self.workers[self.calls[number].0];
                if worker.free > 0 {
                    worker.free -= 1;
                    let end = self.now + self.calls[number].2;
                    self.at(end, Event::Ended(number));
                } else {
                    worker.waiting.push_back(number);
                }
            }
            Event::Ended(number) => {
                let which = self.calls[number].0;
                let worker = &mut self.workers[which];
                let told = pass(&mut worker.io, self.now, call.worker / 2.0);
                let next = worker.waiting.pop_front();
                match next {
                    Some(next) => {
                        let end = self.now + self.calls[next].2;
                        self.at(end, Event::Ended(next));
                    }
                    None => worker.free += 1,
                }
                self.at(told + costs.delay, Event::Reply(number));
            }
            Event::Reply(number) => {
                let share = self.site.value / (self.site.argument + self.site.value).max(1.0);
                let read = pass(&mut self.link_in, self.now, call.link * share);
                let served = pass(&mut self.broker, read, call.broker / 2.0);
                self.at(served, Event::Answered(number));
                let which = self.calls[number].0;
                self.at(served + costs.confirm + 2.0 * costs.delay, Event::Room(which));
            }
            Event::Answered(number) => {
                let share = self.site.value / (self.site.argument + self.site.value).max(1.0);
                let written = pass(&mut self.link_out, self.now, call.link * share);
                self.at(written + costs.delay, Event::Back(number));
            }
            Event::Back(number) => {
                let heard = pass(&mut self.client, self.now, call.client / 2.0);
                self.at(heard, Event::Heard(number));
            }
            Event::Room(which) => {
                self.workers[which].room += 1;
                if self.workers[which].room == 1 {
                    self.turn.push_back(which);
                }
                self.deliver();
            }
            Event::Heard(_) => unreachable!("the client hears of it"),
        }
    }

    /// Gives what is in the queue to whoever has room, in turn.
    fn deliver(&mut self) {
        let share = self.site.argument / (self.site.argument + self.site.value).max(1.0);
        while let (Some(&number), Some(&which)) = (self.ready.front(), self.turn.front()) {
            self.ready.pop_front();
            self.turn.pop_front();
            let worker = &mut self.workers[which];
            worker.room -= 1;
            if worker.room > 0 {
                self.turn.push_back(which);
            }
            self.calls[number].0 = which;
            let written = pass(&mut self.link_out, self.now, self.call.link * share);
            self.at(written + self.site.costs.delay, Event::Arrives(number));
        }
    }
}
