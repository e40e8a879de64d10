//! What `benches/machines.md` says of many machines: the arithmetic holds, because a simulation that knows nothing of it
//! comes to the same. Seeded, and in time that is only counted: no clock is looked at.

#![cfg(not(loom))]

#[path = "../benches/machines/model.rs"]
mod model;
#[path = "../benches/machines/simulation.rs"]
mod simulation;

use model::{Costs, Limit, MEASURED, Site};
use simulation::{Lengths, Outcome, Simulation};

const KIB: f64 = 1024.0;

fn site(workers: usize, length: f64, bytes: f64) -> Site {
    Site {
        workers,
        threads: 8,
        length,
        argument: bytes,
        value: bytes,
        chunk: 1,
        window: None,
        costs: MEASURED,
    }
}

fn simulated(site: Site, lengths: Lengths) -> Outcome {
    Simulation::new(site, lengths, 8).run(2)
}

/// How far the simulated rate is off, as a part of the reckoned one.
fn off(site: Site, lengths: Lengths) -> f64 {
    let (rate, _) = site.rate();
    (simulated(site, lengths).rate - rate).abs() / rate
}

#[test]
fn arithmetic_and_simulation_agree_from_a_millisecond_to_a_minute() {
    for workers in [10, 100] {
        for length in [1e-3, 1e-2, 0.1, 1.0, 60.0] {
            for bytes in [KIB, 100.0 * KIB] {
                let site = site(workers, length, bytes);
                let (alike, wild) = (off(site, Lengths::Alike), off(site, Lengths::Wild));
                let what = format!("{workers} workers, {length} s, {bytes} B: {:?}", site.rate());
                assert!(alike < 0.05, "{what}: {alike}");
                assert!(wild < 0.12, "{what}, wild: {wild}");
            }
        }
    }
}

/// Each bound of the formula is the least one somewhere, and there the simulation comes to it.
#[test]
fn each_limit_limits() {
    let free = Costs {
        client: 0.0,
        client_byte: 0.0,
        broker: 0.0,
        broker_byte: 0.0,
        worker: 0.0,
        worker_byte: 0.0,
        delay: 0.0,
        commit: 0.0,
        confirm: 0.0,
        link: f64::INFINITY,
    };
    let with = |costs: Costs| Site { costs, ..site(10, 1e-3, KIB) };
    let far = Costs { delay: 5e-3, ..free };
    let cases = [
        (Limit::Client, with(Costs { client: 1e-4, ..free })),
        (Limit::Broker, with(Costs { broker: 1e-4, ..free })),
        (Limit::Link, with(Costs { link: 1e7, ..free })),
        (Limit::Worker, with(Costs { worker: 1e-3, ..free })),
        (Limit::Work, with(free)),
        (Limit::Window, Site { window: Some(40), ..with(far) }),
        (Limit::Prefetch, Site { window: Some(1_000), ..with(far) }),
    ];
    for (limit, site) in cases {
        assert_eq!(site.rate().1, limit);
        let off = off(site, Lengths::Alike);
        assert!(off < 0.05, "{limit:?}: {off}, {:?}", simulated(site, Lengths::Alike));
    }
}

/// Calls in hand are the rate times how long each is: whatever the simulation does, it loses none and makes none up.
#[test]
fn littles_law_holds_in_the_simulation() {
    for (workers, length) in [(10, 1e-3), (10, 0.1), (100, 1e-2)] {
        for lengths in [Lengths::Alike, Lengths::Wild] {
            let site = site(workers, length, KIB);
            let outcome = simulated(site, lengths);
            let in_hand = outcome.rate * outcome.round;
            let expected = site.in_hand() as f64;
            assert!((in_hand - expected).abs() < expected * 0.05, "{in_hand} of {expected}");
        }
    }
}

/// The number of items a message that the page names does what it says.
#[test]
fn chunks_that_are_reckoned_keep_the_threads_at_work() {
    for (workers, length, bytes) in [(10, 1e-3, 16.0), (10, 1e-2, KIB), (100, 1e-2, 16.0), (100, 0.1, KIB)] {
        let costs = Costs { broker: 150e-6, ..MEASURED };
        let without = Site { costs, ..site(workers, length, bytes) };
        assert!(simulated(without, Lengths::Alike).efficiency < 0.9);
        let chunk = without.chunk_for(0.9).unwrap();
        let outcome = simulated(Site { chunk, ..without }, Lengths::Alike);
        assert!(outcome.efficiency > 0.85, "{chunk} items: {outcome:?}");
    }
}

/// A thousand workers are given their calls when the broker has said that they are there, not when they have answered.
#[test]
fn the_window_of_a_thousand_workers_is_full_before_the_first_reply() {
    let outcome = simulated(site(1_000, 60.0, KIB), Lengths::Alike);
    assert!(outcome.full < 10.0, "full after {} s", outcome.full);
    assert!(outcome.efficiency > 0.95, "{outcome:?}");
}

#[test]
fn the_same_seed_gives_the_same() {
    let run = |seed| Simulation::new(site(10, 1e-2, KIB), Lengths::Wild, seed).run(2);
    assert_eq!(run(1).rate.to_bits(), run(1).rate.to_bits());
    assert_ne!(run(1).rate.to_bits(), run(3).rate.to_bits());
}
