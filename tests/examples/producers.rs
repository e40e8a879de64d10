use crate::running::run;

const FEW: [&str; 8] = ["--producers", "3", "--consumers", "2", "--items", "30", "--capacity", "2"];

/// Of each way: its name and what follows it, up to the next name.
fn ways(said: &str) -> Vec<(&str, Vec<&str>)> {
    let mut ways: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in said.lines() {
        match line.strip_prefix("  ") {
            Some(line) => ways.last_mut().unwrap().1.push(line),
            None => ways.push((line, Vec::new())),
        }
    }
    ways
}

#[test]
fn every_item_is_consumed_once_and_in_order_every_way() {
    let said = run("producers", &FEW).well();
    let ways = ways(&said);
    assert_eq!(ways.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["threads", "processes", "async"]);
    for (name, lines) in ways {
        assert_eq!(lines.len(), 3 + 2 + 1, "{name}: {said}");
        for (producer, line) in lines[..3].iter().enumerate() {
            assert!(
                line.starts_with(&format!("producer {producer}: put 30 items, found the queue full ")),
                "{said}"
            );
        }
        let got = |line: &str| line.rsplit(' ').nth(1)?.parse::<u32>().ok();
        assert_eq!(lines[3..5].iter().filter_map(|line| got(line)).sum::<u32>(), 90, "{said}");
        assert_eq!(lines[5], "every item once: true; those of a producer in their order: true", "{said}");
    }
}

#[test]
fn each_consumer_is_a_worker_of_its_own() {
    let said = run("producers", &[&FEW[..], &["--executor", "processes"]].concat()).well();
    let mut names: Vec<_> =
        said.lines().filter_map(|line| line.trim().strip_prefix("process_")?.split(':').next()).collect();
    names.dedup();
    assert_eq!(names.len(), 2, "{said}");
}

/// One consumer, and a queue for one item: somebody has to wait.
#[test]
fn a_full_queue_holds_producers_back() {
    let said =
        run("producers", &["--executor", "threads", "--consumers", "1", "--capacity", "1", "--items", "50"])
            .well();
    assert!(
        said.lines().any(|line| line.starts_with("  producer") && !line.contains("full 0 times")),
        "{said}"
    );
}
