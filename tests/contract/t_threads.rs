//! Parity clauses T: thread pools.

on_request!(t3_idle_workers_leave_after_a_time_if_asked_to);

fn t3_idle_workers_leave_after_a_time_if_asked_to<E: crate::engines::OnRequest>() {
    use crate::engines::{Wishes, double, until, who, workers};

    // Nobody asked: what happens is what happens there.
    let pool = E::made(Wishes { max_workers: 1, ..Wishes::default() }).unwrap();
    let first = pool.submit(who, ()).result().unwrap();
    assert_eq!(pool.submit(who, ()).result().unwrap(), first);
    assert_eq!(workers(&pool), 1);

    let idle_timeout = Some(std::time::Duration::from_millis(1));
    let pool = E::made(Wishes { max_workers: 2, idle_timeout }).unwrap();
    assert_eq!(pool.submit(double, 21).result().unwrap(), 42);
    until(|| workers(&pool) == 0);
    assert_eq!(pool.submit(double, 21).result().unwrap(), 42);
}
