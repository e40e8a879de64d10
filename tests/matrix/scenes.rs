//! The host's side of each cell: what it does before, at and after the moment of the fault.
//!
//! Not here: the workers' side (`actors.rs`). The rule: on every worker but one a bystander is at work, so the
//! calls that are looked at come to that one.

use std::time::Duration;

use concurrent_futures::{Error, Executor, Future, ProcessPoolBuilder, ProcessPoolExecutor};

use crate::actors::*;
use crate::faults_common::*;
use crate::stage::{Cell, Stage, Tally, patience};
use crate::table::{Expected, Fault, Moment};

/// Where the time is to be over: for a call that does little until its fault comes. It is the victim's alone.
const LIMIT: Duration = Duration::from_secs(2);

/// The same for 64 MiB in a debug build, and for a call that has to be healthy in its second worker.
const LARGE_LIMIT: Duration = Duration::from_secs(4);

/// For a healthy worker to be started, if the pool starts others with a fault.
const START_LIMIT: Duration = Duration::from_secs(3);

/// Where a worker is to be killed when it does not leave.
const GRACE: Duration = Duration::from_millis(200);

pub(crate) fn play(cell: Cell, tally: &Tally) {
    match cell.moment {
        Moment::Handshake => handshake(cell, tally),
        Moment::Decode | Moment::Run | Moment::Encode | Moment::HalfReply => {
            in_a_call(cell, tally, |pool| pool)
        }
        Moment::RecyclingCall => in_a_call(cell, tally, |pool| pool.max_tasks_per_child(1)),
        Moment::RecyclingExit => recycling_exit(cell, tally),
        Moment::ShutdownCall => shutdown_call(cell, tally),
        Moment::ShutdownExit => shutdown_exit(cell, tally),
        Moment::Idle => idle(cell, tally),
        Moment::LargeReply => large_reply(cell, tally),
        Moment::LargeCall => large_call(cell, tally),
        Moment::OtherSends => other_sends(cell, tally),
    }
}

/// The process that gave a large value.
fn pid_of((pid, blob): (u32, Blob)) -> u32 {
    assert!(blob == Blob::new(LARGE), "it is whole");
    pid
}

fn handshake(cell: Cell, tally: &Tally) {
    let once = TempDir::new();
    let stage = Stage::new(cell, tally, |pool, orders| {
        let pool = pool
            .env(birth::FAULT, cell.fault.to_string())
            .env(birth::NOTE, &orders.note)
            .env(birth::ONCE, once.path("once"));
        if cell.fault.needs_limit() { pool.start_timeout(START_LIMIT) } else { pool }
    });
    let others = stage.hold(cell.workers);
    let behind = stage.bystanders();
    let victim = stage.victim();
    assert!(!victim.is_there() && !stage.pool.worker_pids().contains(&victim.pid), "another took its place");
    let born = stage.lives().len();
    assert!(
        born == cell.workers + 1 || cell.fault.needs_limit() && born > cell.workers,
        "{born} were started"
    );
    stage.release(others);
    stage.have_values(behind);
    stage.is_full_again();
    stage.close();
}

fn in_a_call(cell: Cell, tally: &Tally, set_up: impl FnOnce(ProcessPoolBuilder) -> ProcessPoolBuilder) {
    let stage = Stage::new(cell, tally, |pool, _| set_up(pool));
    let others = stage.hold(cell.workers - 1);
    let before = stage.bystanders();
    let victim = call_the_victim(&stage);
    let behind = stage.bystanders();
    judge_the_victim(&stage, victim);
    stage.have_values(before);
    stage.have_values(behind);
    stage.recovers(others);
}

fn call_the_victim(stage: &Stage<'_>) -> Future<Answer> {
    let argument = Argument(stage.orders());
    stage.tally.hand_out(stage.pool.try_submit_with(the_victim, argument, stage.options(LIMIT)))
}

#[track_caller]
fn judge_the_victim(stage: &Stage<'_>, future: Future<Answer>) {
    stage.judge_call("the_victim", future, |answer| answer.pid);
}

fn recycling_exit(cell: Cell, tally: &Tally) {
    let stage = Stage::new(cell, tally, |pool, _| pool.max_tasks_per_child(1).grace_period(grace(cell)));
    let others = stage.hold(cell.workers - 1);
    let before = stage.bystanders();
    let last = tally.hand_out(stage.pool.submit_with(plan_exit, stage.orders(), patience()));
    let behind = stage.bystanders();
    let id = last.id();
    let value = tally.end(last);
    stage.have_values(before);
    // They have another worker, of which there is none before the last one has left.
    stage.have_values(behind);
    stage.judge("plan_exit", id, value);
    assert!(!stage.victim().is_there());
    stage.recovers(others);
}

fn grace(cell: Cell) -> Duration {
    if cell.fault.needs_limit() { GRACE } else { LONG }
}

/// Plays a scene while the pool shuts down, and waits for its end.
#[track_caller]
fn while_it_shuts_down(stage: &Stage<'_>, scene: impl FnOnce()) {
    std::thread::scope(|scope| {
        let shutdown = scope.spawn(|| stage.pool.shutdown());
        until("the pool is closed", || format!("{:?}", stage.pool).contains("open: false"));
        scene();
        shutdown.join().unwrap();
    });
    let late = stage.tally.hand_out(stage.pool.submit_with(double, 1, patience()));
    assert!(matches!(stage.tally.end(late), Err(Error::ShutDown { .. })));
    assert!(stage.pool.worker_pids().is_empty());
}

fn shutdown_call(cell: Cell, tally: &Tally) {
    let stage = Stage::new(cell, tally, |pool, _| pool);
    let others = stage.hold(cell.workers - 1);
    let ahead = stage.hold(1);
    let victim = call_the_victim(&stage);
    let behind = stage.bystanders();
    while_it_shuts_down(&stage, || {
        stage.release(ahead);
        judge_the_victim(&stage, victim);
        stage.have_values(behind);
        stage.release(others);
    });
    stage.close();
}

fn shutdown_exit(cell: Cell, tally: &Tally) {
    let stage = Stage::new(cell, tally, |pool, _| pool.grace_period(grace(cell)));
    let others = stage.hold(cell.workers - 1);
    let before = stage.bystanders();
    let last = tally.hand_out(stage.pool.submit_with(plan_exit, stage.orders(), patience()));
    let behind = stage.bystanders();
    let id = last.id();
    let value = tally.end(last);
    stage.have_values(before);
    stage.have_values(behind);
    while_it_shuts_down(&stage, || {
        until("its worker leaves", || stage.has_struck());
        stage.release(others);
    });
    stage.judge("plan_exit", id, value);
    stage.close();
}

fn idle(cell: Cell, tally: &Tally) {
    let trigger = Gate::new();
    let stage = Stage::new(cell, tally, |pool, _| pool);
    let others = stage.hold(cell.workers - 1);
    let before = stage.bystanders();
    let plan = (stage.orders(), trigger.path());
    let plan = tally.hand_out(stage.pool.submit_with(ambush_when_idle, plan, patience()));
    let pid = tally.end(plan).unwrap();
    stage.have_values(before);
    trigger.next().go_on();
    match (stage.expected(), cell.fault) {
        (Expected::Value, _) | (_, Fault::Of(Death::Loop)) => until("it strikes", || stage.has_struck()),
        (_, Fault::Of(Death::Stop)) => until("it stands still", || state(pid) == Some('T')),
        _ => until_dead(pid),
    }
    let victim = tally.hand_out(stage.pool.submit_with(pid_of_worker, (), stage.options(LARGE_LIMIT)));
    let behind = stage.bystanders();
    stage.judge_call("pid_of_worker", victim, |pid| pid);
    stage.have_values(behind);
    stage.recovers(others);
}

fn large_reply(cell: Cell, tally: &Tally) {
    let stage = Stage::new(cell, tally, |pool, _| pool);
    let others = stage.hold(cell.workers - 1);
    let before = stage.bystanders();
    let victim =
        tally.hand_out(stage.pool.submit_with(the_sender, stage.orders(), stage.options(LARGE_LIMIT)));
    let behind = stage.bystanders();
    stage.judge_call("the_sender", victim, pid_of);
    stage.have_values(before);
    stage.have_values(behind);
    stage.recovers(others);
}

fn large_call(cell: Cell, tally: &Tally) {
    let stage = Stage::new(cell, tally, |pool, _| pool);
    let others = stage.hold(cell.workers - 1);
    let before = stage.bystanders();
    let plan = tally.hand_out(stage.pool.submit_with(ambush_when_called, stage.orders(), patience()));
    tally.end(plan).unwrap();
    stage.have_values(before);
    let options = stage.options(LARGE_LIMIT);
    let victim = tally.hand_out(stage.pool.submit_with(the_called, Blob::new(LARGE), options));
    let behind = stage.bystanders();
    stage.judge_call("the_called", victim, |pid| pid);
    stage.have_values(behind);
    stage.recovers(others);
}

fn other_sends(cell: Cell, tally: &Tally) {
    let stage = Stage::new(cell, tally, |pool, _| pool);
    let second_pool = (cell.workers == 1).then(|| ProcessPoolExecutor::new(1).unwrap());
    let halfway = Gate::new();
    let others = stage.hold(cell.workers.saturating_sub(2));
    let sender = second_pool.as_ref().unwrap_or(&stage.pool);
    let sender = tally.hand_out(sender.submit_with(the_other_sender, halfway.path(), patience()));
    let at_halfway = halfway.next();
    let before = stage.bystanders();
    let victim = call_the_victim(&stage);
    let behind = stage.bystanders();
    judge_the_victim(&stage, victim);
    stage.have_values(before);
    stage.have_values(behind);
    assert!(sender.running());
    let pid = at_halfway.pid;
    at_halfway.go_on();
    assert_eq!(tally.end(sender).map(pid_of).unwrap(), pid);
    stage.recovers(others);
}
