//! Parity clauses X: what every executor has.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use concurrent_futures::{Executor, MapOptions, Shutdown, Task};
use serde::{Deserialize, Serialize};

use crate::common::{Journal, LONG, Turnstile, blocked};
use crate::engines::{double, note, pass, refuse_threes};

contract!([x1_arguments_may_have_any_name], [x3_leaving_a_block_waits_and_hands_on_the_error]);

registered!([by_name, by_position], []);

/// What Python passes by name. There is nothing that a name could collide with.
#[derive(Debug, Serialize, Deserialize)]
struct Keywords {
    function: u32,
    executor: Option<String>,
    argument: BTreeMap<String, u32>,
}

fn by_name(Keywords { function, executor, argument }: Keywords) -> String {
    format!("{function} {} {}", executor.unwrap_or_default(), argument["fn"])
}

fn by_position((a, b, c): (u32, char, [u8; 2])) -> String {
    format!("{a}{b}{c:?}")
}

fn x1_arguments_may_have_any_name<E: Executor + 'static>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let keywords = Keywords {
        function: 1,
        executor: Some("self".to_owned()),
        argument: BTreeMap::from([("fn".to_owned(), 2)]),
    };
    let future = executor.submit(by_name, keywords);
    assert_eq!(future.result().unwrap(), "1 self 2");
    // By position, as many as there are.
    let future = executor.submit(by_position, (1, 'x', [2, 3]));
    assert_eq!(future.result().unwrap(), "1x[2, 3]");
}

/// Leaving by `?`, without a panic, is an end like any other: nothing is cancelled.
fn x3_leaving_a_block_waits_and_hands_on_the_error<E: Executor + 'static>(make: impl Fn(usize) -> E) {
    let journal = Journal::new();
    let (executor, gate, page) = (make(1), Turnstile::new(), journal.page());
    let held = executor.submit(pass, gate.ticket(0));
    let arrival = gate.arrival();
    let leaving = blocked(move || -> Result<(), String> {
        let executor = executor;
        for number in 1..5 {
            drop(executor.submit(note, (page.clone(), number)));
        }
        Err("the block fails")?;
        Ok(())
    });
    assert!(!leaving.is_finished() && held.running());
    arrival.release();
    assert_eq!(leaving.join().unwrap(), Err("the block fails".to_owned()));
    assert!(held.done());
    assert_eq!(journal.lines(), ["1", "2", "3", "4"]);
}

/// Has what an executor must have, and counts.
#[derive(Default)]
struct Counting(AtomicUsize);

impl Executor for Counting {
    fn execute(&self, task: Task) {
        self.0.fetch_add(1, Ordering::SeqCst);
        task.run();
    }

    fn shutdown_with(&self, _how: Shutdown) {}
}

#[test]
fn x2_all_that_an_executor_does_is_made_of_two_methods() {
    let executor = Counting::default();
    let tasks = || executor.0.swap(0, Ordering::SeqCst);
    assert_eq!((executor.submit(double, 1).result().unwrap(), tasks()), (2, 1));
    assert_eq!((executor.try_submit(refuse_threes, 1).result().unwrap(), tasks()), (2, 1));
    let sum = |results: concurrent_futures::Map<'_, u32>| results.map(Result::unwrap).sum::<u32>();
    assert_eq!((sum(executor.map(double, 1..4)), tasks()), (12, 3));
    // A chunk is a task.
    let options = MapOptions::new().chunksize(2);
    assert_eq!((sum(executor.map_with(double, 1..4, options)), tasks()), (12, 2));
    assert_eq!((executor.try_map(refuse_threes, 1..4).filter(Result::is_ok).count(), tasks()), (2, 3));
    executor.shutdown();
    assert!(!executor.shutdown_timeout(LONG), "nobody can say whether its tasks have ended");
}
