//! Parity clauses T: thread pools.

on_request!(
    t3_idle_workers_leave_after_a_time_if_asked_to,
    t4_one_queue_first_in_first_out_and_bounded_if_asked_to,
);

fn t3_idle_workers_leave_after_a_time_if_asked_to<E: crate::engines::OnRequest>() {
    use crate::engines::{Wishes, double, until, who, workers};

    // Nobody asked: what happens is what happens there.
    let pool = E::made(Wishes { max_workers: 1, ..Wishes::default() }).unwrap();
    let first = pool.submit(who, ()).result().unwrap();
    assert_eq!(pool.submit(who, ()).result().unwrap(), first);
    assert_eq!(workers(&pool), 1);

    let idle_timeout = Some(std::time::Duration::from_millis(1));
    let pool = E::made(Wishes { max_workers: 2, idle_timeout, ..Wishes::default() }).unwrap();
    assert_eq!(pool.submit(double, 21).result().unwrap(), 42);
    until(|| workers(&pool) == 0);
    assert_eq!(pool.submit(double, 21).result().unwrap(), 42);
}

fn t4_one_queue_first_in_first_out_and_bounded_if_asked_to<E: crate::engines::OnRequest>() {
    use std::sync::Arc;

    use crate::common::{Journal, Turnstile, blocked};
    use crate::engines::{Wishes, note, pass, pending};

    for max_pending in [None, Some(3)] {
        let pool = Arc::new(E::made(Wishes { max_workers: 1, max_pending, ..Wishes::default() }).unwrap());
        let (gate, journal) = (Turnstile::new(), Journal::new());
        let first = pool.submit(pass, gate.ticket(0));
        let held = gate.arrival();
        let (page, submitting) = (journal.page(), Arc::clone(&pool));
        let submitter =
            blocked(move || (0..500).map(|n| submitting.submit(note, (page.clone(), n))).collect::<Vec<_>>());
        assert_eq!(submitter.is_finished(), max_pending.is_none());
        assert_eq!(pending(&*pool), max_pending.unwrap_or(500));
        held.release();
        assert!(submitter.join().unwrap().into_iter().all(|future| future.result().is_ok()));
        assert_eq!(journal.lines(), (0..500).map(|n| n.to_string()).collect::<Vec<_>>());
        assert_eq!(first.result().unwrap(), 0);
    }
}
