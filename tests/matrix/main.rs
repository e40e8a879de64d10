//! The fault matrix: everything that can go wrong in a worker × when it does × how many workers there are.
//!
//! What must come of each cell stands in `table.rs`. In every cell, whatever it is about:
//!
//! 1. Every future that was handed out ends, and as it must: an error of the victim's names the call, the process
//!    and how it ended, or the limit; bystanders before it and behind it in the queue, and on all other workers
//!    all the while, have their values and notice nothing.
//! 2. Then the pool is full: as many calls at a time as there may be workers, in as many processes.
//! 3. At its end it leaves no process, dead ones that nobody waited for included.
//!
//! Not here: what of a death is the pool's end (`crash_loops.rs`), hosts that die (`fate.rs`), systems
//! that refuse (`limits.rs`). A test is a moment and plays its cells one after the other, each under a watchdog
//! that bears its name.

#![allow(unsafe_code)] // handlers of signals and exits, and a function before `init`

mod actors;
mod crash_loops;
#[path = "../faults_common/mod.rs"]
mod faults_common;
mod scenes;
mod stage;
mod table;

use faults_common::{applause, do_without_pages, my_role, role};
use stage::{Cell, Tally};
use table::{Fault, Moment};

concurrent_futures::init_tests!();

/// What is played in a process of its own. (Each cell has its watchdog.)
#[test]
fn role_entry() {
    if my_role().as_deref() == Some(HALF_REPLIES) {
        do_without_pages();
        play("reply_half_written", &[Moment::HalfReply]);
    }
}

const HALF_REPLIES: &str = "half replies";

fn play(name: &str, moments: &[Moment]) {
    let tally = Tally::default();
    for &moment in moments {
        for workers in [1, 2, 13] {
            for fault in Fault::all() {
                let cell = Cell { fault, moment, workers };
                tally.cell(&cell.to_string(), || scenes::play(cell, &tally));
            }
        }
    }
    tally.close(name);
}

#[test]
fn handshake() {
    play("handshake", &[Moment::Handshake]);
}

#[test]
fn decode_argument() {
    play("decode_argument", &[Moment::Decode]);
}

#[test]
fn run() {
    play("run", &[Moment::Run]);
}

#[test]
fn encode_reply() {
    play("encode_reply", &[Moment::Encode]);
}

/// Where there is shared memory, a short reply does not come through the pipe (`hostile.rs` tells of noise in it).
#[test]
fn reply_half_written() {
    print!("{}", applause(role(HALF_REPLIES).spawn().unwrap()));
}

#[test]
fn idle() {
    play("idle", &[Moment::Idle]);
}

#[test]
fn during_shutdown() {
    play("during_shutdown", &[Moment::ShutdownCall, Moment::ShutdownExit]);
}

#[test]
fn during_recycling() {
    play("during_recycling", &[Moment::RecyclingCall, Moment::RecyclingExit]);
}

#[test]
fn a_large_reply_on_the_way() {
    play("a_large_reply_on_the_way", &[Moment::LargeReply]);
}

#[test]
fn the_host_sends_a_large_call() {
    play("the_host_sends_a_large_call", &[Moment::LargeCall]);
}

#[test]
fn another_worker_sends_a_large_reply() {
    play("another_worker_sends_a_large_reply", &[Moment::OtherSends]);
}
