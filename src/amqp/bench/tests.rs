//! The table of what a worker has in hand, against a broker that is a model: deliveries, ends, lost connections, dead
//! workers and stops in any order.
//!
//! Not here: a real broker (`tests/amqp`). The rule: after each step, every call is answered or still somewhere at the
//! broker, and nothing is acknowledged that is not to be.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::portable::{Function, Named, Plain, Portable};

fn twice(n: u64) -> u64 {
    n * 2
}

fn named<Fun: Function<Argument: Portable, Return: Portable>>(_: &Fun) -> Named {
    Named::of::<Fun>(false)
}

fn list() -> List {
    let mut list = List::default();
    list.add(Plain::<_, u64, u64>::new(twice)).unwrap();
    list
}

fn terms(width: usize, delivery_limit: u32) -> Terms {
    let renew_every = Duration::from_secs(600);
    Terms { name: "a worker".into(), width, has_limits: false, delivery_limit, renew_every }
}

fn head(deaths: u32) -> TaskHead {
    let named = named(&Plain::<_, u64, u64>::new(twice));
    TaskHead { deaths, ..TaskHead::new(named, Duration::from_secs(30)) }
}

fn body(head: &TaskHead) -> Vec<u8> {
    let mut body = vec![7];
    message::finish(&mut body, head);
    body
}

fn arrival(id: u64, tag: u64, head: &TaskHead) -> Arrival {
    Arrival {
        from: From::Tasks,
        tag,
        redelivered: false,
        is_left: false,
        reply_to: Some("replies".into()),
        id: Some(ShortString::from(id.to_string())),
        priority: USUAL,
        body: body(head),
    }
}

fn reply(letter: &Letter) -> Ended {
    assert_eq!(letter.to, To::Client);
    message::open::<ReplyHead>(&mut letter.body.clone()).unwrap().ended
}

/// What a worker published next, and that the broker has it.
fn published(bench: &mut Bench<'_>) -> Arc<Letter> {
    let mut letters = bench.take_unsent();
    assert_eq!(letters.len(), 1);
    let (number, letter) = letters.remove(0);
    assert_eq!(bench.take_due(), [], "nothing stands for it so far");
    bench.confirmed(number);
    letter
}

fn tags(bench: &mut Bench<'_>) -> Vec<u64> {
    bench.take_due().into_iter().map(|receipt| receipt.tag).collect()
}

/// A bench that is open, and time that passes as it is told to.
fn with_bench(width: usize, limit: u32, test: impl FnOnce(&mut Bench<'_>, Instant)) {
    let (terms, settings, list) = (terms(width, limit), Settings::default(), list());
    let mut bench = Bench::new(&terms, &settings, &list);
    bench.open();
    bench.set_open(true);
    test(&mut bench, Instant::now());
}

#[test]
fn a_call_is_acknowledged_when_its_reply_is_confirmed() {
    with_bench(1, 5, |bench, now| {
        bench.take(arrival(1, 10, &head(0)), now);
        bench.take(arrival(2, 11, &head(0)), now);
        let begun = bench.begin(now);
        assert_eq!((begun.len(), &**begun[0].argument, begun[0].may_kill), (1, &[7][..], false));
        assert!(bench.begin(now).is_empty(), "it makes one at a time");
        bench.end(&begun[0].key, Finish::Value(vec![14]), now);
        assert_eq!(reply(&published(bench)), Ended::Value);
        assert_eq!(tags(bench), [10]);
        assert_eq!(bench.begin(now).len(), 1);
    });
}

#[test]
fn what_cannot_be_called_is_answered() {
    with_bench(1, 5, |bench, now| {
        let mut answer = |arrival: Arrival| {
            let tag = arrival.tag;
            bench.take(arrival, now);
            assert!(bench.begin(now).is_empty());
            let ended = reply(&published(bench));
            assert_eq!(tags(bench), [tag]);
            ended
        };
        let of = |change: fn(&mut TaskHead)| {
            let mut head = head(0);
            change(&mut head);
            arrival(1, 1, &head)
        };
        let known = vec![named(&Plain::<_, u64, u64>::new(twice)).function.to_owned()];
        assert_eq!(answer(of(|head| head.function = "nobody".into())), Ended::Unknown { known });
        let Ended::Refused { reason } = answer(of(|head| head.shape ^= 1)) else { panic!() };
        assert!(reason.contains("another shape"), "{reason}");
        let Ended::Refused { reason } = answer(of(|head| head.way.fallible = true)) else { panic!() };
        assert!(reason.contains("`try_register`"), "{reason}");
        assert_eq!(answer(of(|head| head.limit = Some(Duration::from_secs(1)))), Ended::Unlimited);
        let foreign = Arrival { body: b"no message of ours".to_vec(), ..arrival(1, 2, &head(0)) };
        let Ended::Refused { reason } = answer(foreign) else { panic!() };
        assert!(reason.contains("not a message of this library"), "{reason}");
        let mut newer = arrival(1, 3, &head(0));
        let version = newer.body.len() - 12;
        newer.body[version] += 1;
        let Ended::Refused { reason } = answer(newer) else { panic!() };
        assert!(reason.contains("version"), "{reason}");
        assert_eq!(answer(arrival(1, 4, &head(5))), Ended::Poisonous { deaths: 5 });
    });
}

#[test]
fn what_nobody_waits_for_is_acknowledged_and_not_made() {
    with_bench(1, 5, |bench, now| {
        bench.take(Arrival { reply_to: None, ..arrival(1, 10, &head(0)) }, now);
        assert!(bench.begin(now).is_empty() && bench.take_unsent().is_empty());
        assert_eq!(tags(bench), [10]);
    });
}

#[test]
fn a_value_that_is_too_long_is_an_error_that_names_the_limit() {
    let settings = Settings { max_message_bytes: 1000, ..Settings::default() };
    let (terms, list) = (terms(1, 5), list());
    let mut bench = Bench::new(&terms, &settings, &list);
    bench.open();
    let now = Instant::now();
    bench.take(arrival(1, 10, &head(0)), now);
    let begun = bench.begin(now).remove(0);
    bench.end(&begun.key, Finish::Value(vec![0; 1000]), now);
    let Ended::Failed(Failure::Unencodable { what, reason }) = reply(&published(&mut bench)) else {
        panic!()
    };
    assert!(what == "return value" && reason.contains("1000"), "{what} {reason}");
}

#[test]
fn a_reply_that_the_broker_does_not_take_becomes_one_that_says_so() {
    with_bench(2, 5, |bench, now| {
        for id in [1, 2] {
            bench.take(arrival(id, id, &head(0)), now);
        }
        for (begun, length) in bench.begin(now).into_iter().zip([10, 10_000]) {
            bench.end(&begun.key, Finish::Value(vec![0; length]), now);
        }
        bench.shorten("message size 10000 is larger than configured max size 5000");
        bench.lose();
        bench.open();
        let replies: Vec<_> = bench.take_unsent().iter().map(|(_, letter)| reply(letter)).collect();
        let [Ended::Value, Ended::Failed(Failure::Unencodable { reason, .. })] = &replies[..] else {
            panic!("{replies:?}")
        };
        assert!(reason.contains("max size 5000"), "{reason}");
    });
}

#[test]
fn another_delivery_of_a_call_in_hand_is_acknowledged_with_it() {
    with_bench(1, 5, |bench, now| {
        for (id, tag) in [(1, 10), (2, 11), (1, 12), (2, 13)] {
            bench.take(arrival(id, tag, &head(0)), now);
        }
        let begun = bench.begin(now).remove(0);
        bench.end(&begun.key, Finish::Value(Vec::new()), now);
        // Its reply is on its way, and the broker delivers it again.
        bench.take(Arrival { redelivered: true, ..arrival(1, 14, &head(0)) }, now);
        assert_eq!(reply(&published(bench)), Ended::Value);
        assert_eq!(tags(bench), [10, 12, 14]);
        let begun = bench.begin(now).remove(0);
        assert_eq!(begun.key.id.as_str(), "2");
        bench.end(&begun.key, Finish::Value(Vec::new()), now);
        published(bench);
        assert_eq!(tags(bench), [11, 13]);
        assert!(bench.is_clear());
    });
}

#[test]
fn who_waits_for_long_is_told_that_we_have_it() {
    with_bench(1, 5, |bench, now| {
        let tell = |bench: &mut Bench<'_>, seconds| {
            let news = bench.tell(now + Duration::from_secs(seconds)).into_iter();
            let mut told: Vec<_> = news
                .map(|mut news| {
                    assert_eq!(message::open::<ReplyHead>(&mut news.body).unwrap().ended, Ended::NotYet);
                    news.key.id.to_string()
                })
                .collect();
            told.sort();
            told
        };
        let often = TaskHead { tell_every: Duration::from_secs(10), ..head(0) };
        for (id, head) in [(1, head(0)), (2, often), (3, head(2))] {
            bench.take(arrival(id, 10 + id, &head), now);
        }
        // The suspect has the others wait.
        assert_eq!(tell(bench, 9), Vec::<String>::new());
        assert_eq!(tell(bench, 10), ["2"]);
        assert_eq!(tell(bench, 19), Vec::<String>::new());
        assert_eq!(tell(bench, 30), ["1", "2", "3"]);
        assert!(bench.take_unsent().is_empty() && bench.take_due().is_empty());
        bench.set_open(false);
        bench.tidy();
        for (number, _) in bench.take_unsent() {
            bench.confirmed(number);
        }
        bench.take_due();
        let begun = bench.begin(now).remove(0);
        assert_eq!(tell(bench, 60), ["3"], "the others were given back");
        bench.end(&begun.key, Finish::Value(Vec::new()), now);
        assert_eq!(tell(bench, 90), Vec::<String>::new());
    });
}

#[test]
fn another_attempt_is_another_call() {
    with_bench(2, 5, |bench, now| {
        bench.take(arrival(1, 10, &head(0)), now);
        bench.take(arrival(1, 11, &TaskHead { attempt: 2, ..head(0) }), now);
        let attempts: Vec<_> = bench.begin(now).into_iter().map(|begun| begun.key.attempt).collect();
        assert_eq!(attempts, [1, 2]);
    });
}

#[test]
fn what_another_worker_had_goes_back_one_death_richer() {
    with_bench(1, 5, |bench, now| {
        bench.take(Arrival { redelivered: true, ..arrival(1, 10, &head(0)) }, now);
        assert!(bench.begin(now).is_empty());
        let letter = published(bench);
        let mut body = letter.body.clone();
        assert_eq!((letter.to, message::open(&mut body), &body[..]), (To::Tasks, Ok(head(1)), &[7][..]));
        assert_eq!(tags(bench), [10]);
        // One death makes no suspect. But it begins when nothing that was given back is on its way.
        bench.take(Arrival { redelivered: true, ..arrival(2, 11, &head(0)) }, now);
        bench.take(arrival(1, 12, &head(1)), now);
        assert!(bench.wants_more() && bench.begin(now).is_empty(), "the other is on its way");
        let (number, _) = bench.take_unsent().remove(0);
        bench.confirmed(number);
        assert!(bench.begin(now).is_empty(), "what it stands for is not acknowledged");
        assert_eq!(tags(bench), [11]);
        assert!(bench.begin(now)[0].may_kill && bench.wants_more());
    });
}

#[test]
fn what_was_given_back_and_comes_again_is_not_what_was_given_back() {
    with_bench(1, 5, |bench, now| {
        bench.take(Arrival { redelivered: true, ..arrival(1, 10, &head(0)) }, now);
        let (first, _) = bench.take_unsent().remove(0);
        // The broker has that copy. Another worker died of it, and we do not know of its being there.
        bench.take(Arrival { redelivered: true, ..arrival(1, 11, &head(1)) }, now);
        bench.confirmed(first);
        assert_eq!(tags(bench), [10], "that is all that it stands for");
        assert_eq!(message::open(&mut published(bench).body.clone()), Ok(head(2)));
        assert_eq!(tags(bench), [11]);
    });
}

#[test]
fn the_last_worker_that_a_call_may_have_is_the_last() {
    with_bench(1, 2, |bench, now| {
        bench.take(Arrival { redelivered: true, ..arrival(1, 10, &head(1)) }, now);
        assert!(bench.begin(now).is_empty());
        assert_eq!(reply(&published(bench)), Ended::Poisonous { deaths: 2 });
        assert_eq!(tags(bench), [10]);
    });
}

#[test]
fn a_suspect_is_made_when_all_else_is_acknowledged() {
    with_bench(2, 5, |bench, now| {
        for (id, tag, deaths) in [(1, 10, 0), (2, 11, 2), (3, 12, 0), (4, 13, 3)] {
            bench.take(arrival(id, tag, &head(deaths)), now);
        }
        // The first suspect is held, the second goes back; none of those that wait begins any more.
        assert!(!bench.wants_more() && bench.begin(now).is_empty());
        bench.set_open(false);
        bench.tidy();
        let back = bench.take_unsent();
        assert_eq!(back.len(), 3);
        for (number, _) in &back {
            assert!(bench.begin(now).is_empty(), "not all is confirmed");
            bench.confirmed(*number);
        }
        assert!(bench.begin(now).is_empty(), "not all is acknowledged");
        assert_eq!(tags(bench), [10, 12, 13]);
        let begun = bench.begin(now).remove(0);
        assert!(begun.may_kill && begun.key.id.as_str() == "2");
        assert!(!bench.wants_more(), "while it runs");
        bench.end(&begun.key, Finish::Value(Vec::new()), now);
        published(bench);
        assert_eq!(tags(bench), [11]);
        assert!(bench.begin(now).is_empty() && bench.wants_more() && bench.is_clear());
    });
}

#[test]
fn a_stop_gives_back_what_has_not_begun_a_suspect_too() {
    with_bench(1, 5, |bench, now| {
        bench.take(arrival(1, 10, &head(0)), now);
        let begun = bench.begin(now).remove(0);
        bench.take(arrival(2, 11, &head(0)), now);
        bench.take(arrival(3, 12, &head(2)), now);
        bench.stop();
        assert!(bench.begin(now).is_empty());
        bench.set_open(false);
        bench.tidy();
        for (number, letter) in bench.take_unsent() {
            assert_eq!(letter.to, To::Tasks);
            bench.confirmed(number);
        }
        assert_eq!(tags(bench), [11, 12]);
        assert!(!bench.is_clear());
        bench.end(&begun.key, Finish::Value(Vec::new()), now);
        assert_eq!(reply(&published(bench)), Ended::Value);
        assert_eq!(tags(bench), [10]);
        assert!(bench.is_clear());
    });
}

#[test]
fn what_was_in_hand_when_the_connection_was_lost_has_no_death_more() {
    with_bench(1, 5, |bench, now| {
        bench.take(arrival(1, 10, &head(0)), now);
        let begun = bench.begin(now).remove(0);
        bench.take(arrival(2, 11, &head(1)), now);
        bench.lose();
        bench.open();
        bench.set_open(true);
        let again = |id, tag, deaths| Arrival { redelivered: true, ..arrival(id, tag, &head(deaths)) };
        bench.take(again(1, 1, 0), now);
        bench.take(again(2, 2, 1), now);
        assert!(bench.take_unsent().is_empty());
        // It has been to somebody else meanwhile, who is not known to have it.
        bench.take(again(3, 3, 0), now);
        let letter = published(bench);
        assert_eq!((letter.to, letter.key.id.as_str()), (To::Tasks, "3"));
        assert_eq!(tags(bench), [3]);
        bench.end(&begun.key, Finish::Value(Vec::new()), now);
        published(bench);
        assert_eq!(tags(bench), [1], "and not the one of before");
        assert_eq!(bench.begin(now)[0].key.id.as_str(), "2");
    });
}

#[test]
fn a_reply_that_was_not_confirmed_is_sent_in_the_next_session() {
    with_bench(1, 5, |bench, now| {
        bench.take(arrival(1, 10, &head(0)), now);
        let begun = bench.begin(now).remove(0);
        bench.end(&begun.key, Finish::Value(Vec::new()), now);
        assert_eq!(bench.take_unsent().len(), 1);
        bench.lose();
        assert_eq!((bench.unanswered(), bench.is_clear()), (1, false));
        bench.open();
        assert_eq!(reply(&published(bench)), Ended::Value);
        assert!(tags(bench).is_empty(), "its delivery is of a session that is over");
        assert!(bench.is_clear());
    });
}

#[test]
fn a_copy_takes_the_place_of_a_delivery_of_a_call_that_takes_long() {
    with_bench(1, 5, |bench, now| {
        bench.take(arrival(1, 10, &head(1)), now);
        bench.take(arrival(2, 11, &head(0)), now);
        let begun = bench.begin(now).remove(0);
        bench.renew(now + Duration::from_secs(599));
        assert!(bench.take_unsent().is_empty());
        let now = now + Duration::from_secs(600);
        bench.renew(now);
        bench.renew(now);
        let letters = bench.take_unsent();
        let to: Vec<_> = letters.iter().map(|(_, letter)| letter.to).collect();
        assert_eq!(to, [To::Tasks, To::Held], "what waits goes back, of what runs there is a copy");
        assert_eq!(message::open(&mut letters[1].1.body.clone()), Ok(head(1)));
        for (number, _) in letters {
            bench.confirmed(number);
        }
        assert_eq!(tags(bench), [11, 10]);
        let copy = |tag| Arrival { from: From::Held, ..arrival(1, tag, &head(1)) };
        bench.take(copy(1), now);
        assert!(bench.take_unsent().is_empty());
        // And once more, of the copy.
        let now = now + Duration::from_secs(600);
        bench.renew(now);
        assert_eq!(published(bench).to, To::Held);
        assert_eq!(bench.take_due(), [Receipt { session: 1, from: From::Held, tag: 1 }]);
        bench.end(&begun.key, Finish::Value(Vec::new()), now);
        assert_eq!(reply(&published(bench)), Ended::Value);
        assert!(tags(bench).is_empty() && bench.begin(now).is_empty());
        // That copy comes when the call is over.
        bench.take(copy(2), now);
        assert_eq!(bench.take_due(), [Receipt { session: 1, from: From::Held, tag: 2 }]);
        assert!(bench.begin(now).is_empty() && bench.is_clear());
    });
}

#[test]
fn a_copy_that_nobody_came_back_for_is_a_death() {
    with_bench(1, 5, |bench, now| {
        bench.take(Arrival { is_left: true, ..arrival(1, 10, &head(0)) }, now);
        assert_eq!(message::open(&mut published(bench).body.clone()), Ok(head(1)));
        assert_eq!(tags(bench), [10]);
    });
}

#[test]
fn a_call_that_was_cut_off_goes_to_another_worker() {
    with_bench(1, 5, |bench, now| {
        bench.take(arrival(1, 10, &head(0)), now);
        let begun = bench.begin(now).remove(0);
        bench.end(&begun.key, Finish::NotMade { counts: true }, now);
        assert_eq!(message::open(&mut published(bench).body.clone()), Ok(head(1)));
        assert_eq!(tags(bench), [10]);
        assert!(bench.is_clear());
    });
}

#[test]
fn a_call_that_was_cut_off_after_its_connection_is_somebody_elses() {
    with_bench(1, 5, |bench, now| {
        bench.take(arrival(1, 10, &head(0)), now);
        let begun = bench.begin(now).remove(0);
        bench.lose();
        bench.end(&begun.key, Finish::NotMade { counts: true }, now);
        bench.open();
        assert!(bench.take_unsent().is_empty() && bench.is_clear());
    });
}

/// A call that runs, whose copy stands for it and is still to come.
fn with_copy_under_way(test: impl FnOnce(&mut Bench<'_>, Instant, Key)) {
    with_bench(1, 5, |bench, now| {
        bench.take(arrival(1, 10, &head(0)), now);
        let begun = bench.begin(now).remove(0);
        let now = now + Duration::from_secs(600);
        bench.renew(now);
        assert_eq!(published(bench).to, To::Held);
        assert_eq!(tags(bench), [10]);
        test(bench, now, begun.key);
    });
}

#[test]
fn a_copy_of_what_was_given_back_is_acknowledged() {
    with_copy_under_way(|bench, now, key| {
        bench.end(&key, Finish::NotMade { counts: false }, now);
        let (number, letter) = bench.take_unsent().remove(0);
        assert_eq!(letter.to, To::Tasks);
        // It comes before that is known to be there, and is as good as that; or after.
        bench.take(Arrival { from: From::Held, ..arrival(1, 1, &head(0)) }, now);
        assert!(tags(bench).is_empty());
        bench.confirmed(number);
        assert_eq!(tags(bench), [1]);
    });
    with_copy_under_way(|bench, now, key| {
        bench.end(&key, Finish::NotMade { counts: false }, now);
        published(bench);
        bench.take(Arrival { from: From::Held, ..arrival(1, 1, &head(0)) }, now);
        assert_eq!(tags(bench), [1]);
        assert!(bench.is_clear());
    });
}

#[test]
fn a_copy_of_what_could_not_be_given_back_is_all_that_there_is_of_it() {
    with_copy_under_way(|bench, now, key| {
        bench.end(&key, Finish::NotMade { counts: true }, now);
        bench.lose();
        bench.open();
        assert!(bench.take_unsent().is_empty());
        bench.take(Arrival { from: From::Held, redelivered: true, ..arrival(1, 1, &head(0)) }, now);
        // With the death that the other would have had.
        assert_eq!(message::open(&mut published(bench).body.clone()), Ok(head(1)));
        assert_eq!(bench.take_due().len(), 1);
    });
}

#[test]
fn what_could_not_be_copied_is_copied_later() {
    with_bench(1, 5, |bench, now| {
        bench.take(arrival(1, 10, &head(0)), now);
        assert_eq!(bench.begin(now).len(), 1);
        let now = now + Duration::from_secs(600);
        bench.renew(now);
        assert_eq!(bench.take_unsent().len(), 1);
        bench.lose();
        bench.open();
        assert!(bench.take_unsent().is_empty());
        bench.take(Arrival { redelivered: true, ..arrival(1, 1, &head(0)) }, now);
        bench.renew(now + Duration::from_secs(599));
        assert!(bench.take_unsent().is_empty());
        bench.renew(now + Duration::from_secs(600));
        assert_eq!(published(bench).to, To::Held);
        assert_eq!(tags(bench), [1]);
    });
}

/// A message at the model of a broker.
#[derive(Clone, Debug)]
struct Message {
    id: u64,
    redelivered: bool,
    is_left: bool,
    body: Vec<u8>,
}

/// A worker, as the broker sees it, and what it runs.
struct Hand<'l> {
    bench: Bench<'l>,
    is_connected: bool,
    /// Of the queue of calls.
    consumes: bool,
    is_stopping: bool,
    tag: u64,
    unacknowledged: BTreeMap<(From, u64), Message>,
    /// Its own queue.
    held: VecDeque<Message>,
    /// Published, and not at the broker.
    on_their_way: VecDeque<(u64, Arc<Letter>)>,
    /// At the broker, and not known to be.
    confirms: VecDeque<u64>,
    running: Vec<Key>,
}

struct Model<'l> {
    terms: &'l Terms,
    settings: &'l Settings,
    list: &'l List,
    now: Instant,
    queue: VecDeque<Message>,
    hands: Vec<Hand<'l>>,
    answers: BTreeMap<u64, Vec<Ended>>,
    /// Calls that end whoever makes them.
    poison: BTreeSet<u64>,
    calls: u64,
    /// How often a call has begun.
    begun: BTreeMap<u64, usize>,
    /// Workers that poison has killed.
    killed: u32,
    /// How often poison came to be there once more: it was given back, and that was not known when it came to its end.
    doubled: u32,
}

fn id(key: &Key) -> u64 {
    key.id.as_str().parse().unwrap()
}

impl<'l> Model<'l> {
    fn new(
        (terms, settings, list): (&'l Terms, &'l Settings, &'l List),
        workers: usize,
        calls: u64,
        poison: BTreeSet<u64>,
    ) -> Self {
        let message = |id| Message { id, redelivered: false, is_left: false, body: body(&head(0)) };
        let mut model = Model {
            terms,
            settings,
            list,
            now: Instant::now(),
            queue: (0..calls).map(message).collect(),
            hands: Vec::new(),
            answers: BTreeMap::new(),
            poison,
            calls,
            begun: BTreeMap::new(),
            killed: 0,
            doubled: 0,
        };
        for _ in 0..workers {
            let hand = model.hire();
            model.hands.push(hand);
        }
        model
    }

    fn hire(&self) -> Hand<'l> {
        Hand {
            bench: Bench::new(self.terms, self.settings, self.list),
            is_connected: false,
            consumes: false,
            is_stopping: false,
            tag: 0,
            unacknowledged: BTreeMap::new(),
            held: VecDeque::new(),
            on_their_way: VecDeque::new(),
            confirms: VecDeque::new(),
            running: Vec::new(),
        }
    }

    /// What a session does between two things that it hears of.
    fn pump(&mut self, at: usize) {
        let hand = &mut self.hands[at];
        if !hand.is_connected {
            return;
        }
        hand.consumes = hand.bench.wants_more();
        hand.bench.set_open(hand.consumes);
        hand.bench.tidy();
        hand.on_their_way.extend(hand.bench.take_unsent());
        for Receipt { from, tag, .. } in hand.bench.take_due() {
            assert!(
                hand.unacknowledged.remove(&(from, tag)).is_some(),
                "there is no delivery {from:?} {tag}"
            );
        }
        let begun = hand.bench.begin(self.now);
        let is_alone = hand.bench.is_alone && !begun.is_empty();
        if begun.iter().any(|begun| begun.may_kill) {
            let copies = hand.bench.outgoing.values().filter(|its| its.letter.to != To::Client).count();
            assert_eq!(copies, 0, "what was given back would be there twice");
        }
        hand.running.extend(begun.into_iter().map(|begun| begun.key.clone()));
        if is_alone {
            assert_eq!(hand.running.len(), 1);
            let others = hand.unacknowledged.values().filter(|its| its.id != id(&hand.running[0])).count();
            assert_eq!(others, 0, "a suspect is not made alone");
        }
        assert!(hand.running.len() <= self.terms.width);
        if hand.is_stopping && hand.bench.is_clear() {
            assert!(hand.unacknowledged.is_empty() || !hand.held.is_empty(), "something was not given back");
            self.disconnect(at, false);
            self.hands[at] = self.hire();
        }
    }

    fn deliver(&mut self, at: usize, from: From) {
        let hand = &mut self.hands[at];
        let message = match from {
            From::Tasks => {
                let tasks = hand.unacknowledged.keys().filter(|(from, _)| *from == From::Tasks).count();
                if !hand.consumes || tasks >= 2 * self.terms.width {
                    return;
                }
                self.queue.pop_front()
            }
            From::Held if hand.is_connected => hand.held.pop_front(),
            From::Held => None,
        };
        let Some(message) = message else { return };
        hand.tag += 1;
        let Message { id, redelivered, is_left, ref body } = message;
        let body = body.clone();
        hand.unacknowledged.insert((from, hand.tag), message);
        hand.bench
            .take(Arrival { from, redelivered, is_left, body, ..arrival(id, hand.tag, &head(0)) }, self.now);
        self.pump(at);
    }

    /// The broker takes the next of what was published.
    fn store(&mut self, at: usize) {
        let hand = &mut self.hands[at];
        let Some((number, letter)) = hand.on_their_way.pop_front() else { return };
        hand.confirms.push_back(number);
        let message =
            Message { id: id(&letter.key), redelivered: false, is_left: false, body: letter.body.clone() };
        match letter.to {
            To::Client => self.answers.entry(message.id).or_default().push(reply(&letter)),
            To::Tasks => self.queue.push_back(message),
            To::Held => hand.held.push_back(message),
        }
    }

    fn confirm(&mut self, at: usize) {
        let hand = &mut self.hands[at];
        if let Some(number) = hand.confirms.pop_front() {
            hand.bench.confirmed(number);
            self.pump(at);
        }
    }

    /// `arrives`: what was on its way does.
    fn disconnect(&mut self, at: usize, arrives: bool) {
        while arrives && !self.hands[at].on_their_way.is_empty() {
            self.store(at);
        }
        let hand = &mut self.hands[at];
        (hand.is_connected, hand.consumes) = (false, false);
        hand.on_their_way.clear();
        hand.confirms.clear();
        // To the front, in the order in which they were.
        for ((from, _), message) in std::mem::take(&mut hand.unacknowledged).into_iter().rev() {
            let message = Message { redelivered: true, ..message };
            let is_twin = self.queue.iter().chain(&hand.held).any(|its| its.id == message.id);
            self.doubled += u32::from(is_twin && self.poison.contains(&message.id));
            match from {
                From::Tasks => self.queue.push_front(message),
                From::Held => hand.held.push_front(message),
            }
        }
    }

    fn kill(&mut self, at: usize, arrives: bool) {
        self.disconnect(at, arrives);
        // What it had put by is over its time.
        self.expire(at);
        self.hands[at] = self.hire();
    }

    fn expire(&mut self, at: usize) {
        for message in std::mem::take(&mut self.hands[at].held) {
            self.queue.push_back(Message { redelivered: false, is_left: true, ..message });
        }
    }

    fn finish(&mut self, at: usize, which: usize) {
        let hand = &mut self.hands[at];
        if hand.running.is_empty() {
            return;
        }
        let key = hand.running.remove(which % hand.running.len());
        *self.begun.entry(id(&key)).or_default() += 1;
        if self.poison.contains(&id(&key)) {
            self.killed += 1;
            return self.kill(at, which.is_multiple_of(2));
        }
        hand.bench.end(&key, Finish::Value(vec![14]), self.now);
        self.pump(at);
    }

    fn step(&mut self, action: u8, which: usize) {
        let at = which % self.hands.len();
        let which = which / self.hands.len();
        let is_connected = self.hands[at].is_connected;
        match action {
            0..=5 => self.deliver(at, From::Tasks),
            6..=8 => self.deliver(at, From::Held),
            9..=14 => self.store(at),
            15..=20 => self.confirm(at),
            21..=24 => self.finish(at, which),
            25..=27 if !is_connected => {
                let hand = &mut self.hands[at];
                hand.is_connected = true;
                hand.tag = 0;
                hand.bench.open();
                self.pump(at);
            }
            28 if is_connected => {
                self.disconnect(at, which.is_multiple_of(2));
                self.hands[at].bench.lose();
            }
            29 => self.kill(at, which.is_multiple_of(2)),
            30 => {
                self.hands[at].is_stopping = true;
                self.hands[at].bench.stop();
                self.pump(at);
            }
            31 => {
                self.now += Duration::from_secs(400);
                self.hands[at].bench.renew(self.now);
                self.pump(at);
            }
            32 if !is_connected => self.expire(at),
            _ => {}
        }
        self.check();
    }

    /// Nothing is lost.
    fn check(&self) {
        let held = self.hands.iter().flat_map(|hand| hand.held.iter().chain(hand.unacknowledged.values()));
        let there: BTreeSet<_> = self.queue.iter().chain(held).map(|message| message.id).collect();
        for id in 0..self.calls {
            assert!(there.contains(&id) || self.answers.contains_key(&id), "call {id} is lost");
        }
    }

    /// Without any more trouble all comes to an end, in so many rounds.
    fn end(&mut self) {
        let rounds = 200 + 40 * self.calls;
        for round in 0.. {
            assert!(round < rounds, "it does not end: {} in the queue", self.queue.len());
            for at in 0..self.hands.len() {
                for action in [25, 0, 0, 0, 6, 6, 9, 9, 9, 9, 15, 15, 15, 15, 21] {
                    self.step(action, at);
                }
            }
            let is_idle = |hand: &Hand<'_>| {
                hand.is_connected
                    && hand.bench.is_clear()
                    && hand.unacknowledged.is_empty()
                    && hand.held.is_empty()
            };
            if self.queue.is_empty() && self.hands.iter().all(is_idle) {
                break;
            }
        }
        assert_eq!(self.answers.len() as u64, self.calls);
    }
}

proptest! {
    #[test]
    fn no_call_is_lost(
        steps in proptest::collection::vec((0_u8..33, 0_usize..64), 0..400),
        workers in 1_usize..4,
        width in 1_usize..4,
        limit in 1_u32..6,
        calls in 1_u64..16,
        poison in proptest::collection::btree_set(0_u64..16, 0..3),
    ) {
        let (terms, settings, list) = (terms(width, limit), Settings::default(), list());
        let mut model = Model::new((&terms, &settings, &list), workers, calls, poison);
        for (action, which) in steps {
            model.step(action, which);
        }
        model.end();
    }

    #[test]
    fn without_trouble_each_call_is_made_once(
        steps in proptest::collection::vec((0_u8..28, 0_usize..64), 0..400),
        stops in proptest::collection::btree_set(0_usize..400, 0..4),
        workers in 1_usize..4,
        width in 1_usize..4,
        calls in 1_u64..16,
    ) {
        let (terms, settings, list) = (terms(width, 5), Settings::default(), list());
        let mut model = Model::new((&terms, &settings, &list), workers, calls, BTreeSet::new());
        for (at, (action, which)) in steps.into_iter().enumerate() {
            model.step(action, which);
            if stops.contains(&at) {
                model.step(30, which);
            }
        }
        model.end();
        prop_assert!(model.answers.values().all(|answers| answers == &[Ended::Value]), "{:?}", model.answers);
        prop_assert!(model.begun.values().all(|times| *times == 1), "{:?}", model.begun);
    }

    #[test]
    fn poison_harms_nobody_else(
        steps in proptest::collection::vec((0_u8..28, 0_usize..64), 0..600),
        workers in 1_usize..4,
        width in 1_usize..4,
        limit in 3_u32..6,
        calls in 1_u64..16,
        poison in 0_u64..16,
    ) {
        let (terms, settings, list) = (terms(width, limit), Settings::default(), list());
        let mut model = Model::new((&terms, &settings, &list), workers, calls, [poison].into());
        for (action, which) in steps {
            model.step(action, which);
        }
        model.end();
        for (id, answers) in &model.answers {
            // A client takes the first. Two of the same poison are too many.
            if *id == poison {
                prop_assert!(answers.iter().all(|ended| *ended == Ended::Poisonous { deaths: limit }), "{answers:?}");
            } else if model.doubled == 0 {
                prop_assert_eq!(&answers[0], &Ended::Value, "{}: {:?}", id, answers);
            }
        }
        let most = limit * (u32::from(poison < calls) + model.doubled);
        prop_assert!(model.killed <= most, "{} of {most}", model.killed);
    }
}
