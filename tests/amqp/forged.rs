//! Messages that this library did not write, or that were meant for another build, and clients that are no more: by hand, as
//! any program with the rights could send them. They cost nobody else anything.
//!
//! Not here: bytes of every kind (the tests of `src/amqp/message.rs`). The rule: after each of them worker and client do what
//! they are there for, and who can be told what was wrong is told.

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use concurrent_futures::{AmqpExecutor, AmqpWorker, Error, Executor, Future};
use lapin::BasicProperties;
use lapin::options::{
    BasicGetOptions, BasicNackOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;

use crate::broker::{Broker, Queue, Setup, WorkerThread, on_a_channel, shared};
use crate::common::{Journal, LIMIT, LONG, Page, watchdog};
use crate::tally::{mixed, noted};

fn reversed(text: String) -> String {
    text.chars().rev().collect()
}

fn zeros(count: u64) -> Vec<u8> {
    vec![0; count as usize]
}

fn length(bytes: Vec<u8>) -> u64 {
    bytes.len() as u64
}

fn unlisted(n: u64) -> u64 {
    n
}

fn checked(n: u64) -> Result<u64, String> {
    if n == 0 { Err("0".into()) } else { Ok(n) }
}

/// Two builds of one program, which differ in a function.
enum Build<'e> {
    Worker(Box<AmqpWorker>),
    Client(&'e AmqpExecutor),
}

fn build(which: Build<'_>) -> Result<AmqpWorker, Future<u64>> {
    match which {
        Build::Worker(worker) => {
            fn counted(text: String) -> u64 {
                text.len() as u64
            }
            Ok((*worker).register(counted))
        }
        Build::Client(executor) => {
            fn counted((text, factor): (String, u64)) -> u64 {
                text.len() as u64 * factor
            }
            Err(executor.submit(counted, ("four".to_owned(), 2)))
        }
    }
}

pub(crate) fn list(worker: AmqpWorker) -> AmqpWorker {
    let worker =
        build(Build::Worker(Box::new(worker))).unwrap_or_else(|_| panic!("it gives the worker back"));
    worker.register(reversed).register(zeros).register(length).register(checked)
}

/// Takes the next message out of a queue, when there is one, or puts it back.
pub(crate) fn next(broker: &Broker, queue: &str, keep: bool) -> (Vec<u8>, BasicProperties) {
    let end = Instant::now() + LONG;
    let got = on_a_channel(broker.url(), async |channel| {
        while Instant::now() < end {
            if let Some(message) = channel.basic_get(queue.into(), BasicGetOptions { no_ack: !keep }).await? {
                if keep {
                    let options = BasicNackOptions { requeue: true, ..Default::default() };
                    channel.basic_nack(message.delivery.delivery_tag, options).await?;
                }
                return Ok(Some((message.delivery.data, message.delivery.properties)));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(None)
    });
    got.unwrap().expect("a message")
}

fn publish(broker: &Broker, queue: &str, body: &[u8], properties: BasicProperties) {
    on_a_channel(broker.url(), async |channel| {
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let options = BasicPublishOptions::default();
        channel.basic_publish("".into(), queue.into(), options, body, properties.clone()).await?.await
    })
    .unwrap();
}

fn connect(broker: &Broker, queue: &Queue) -> AmqpExecutor {
    AmqpExecutor::builder().queue(queue).connect(broker.url()).unwrap()
}

fn works(executor: &AmqpExecutor) {
    assert_eq!(executor.submit(reversed, "stressed".to_owned()).result().unwrap(), "desserts");
}

/// How many messages lie in a queue; `None` if there is no such queue.
fn lying(broker: &Broker, queue: &str) -> Option<u32> {
    on_a_channel(broker.url(), async |channel| {
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        channel.queue_declare(queue.into(), options, FieldTable::default()).await
    })
    .ok()
    .map(|queue| queue.message_count())
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn a_worker_answers_or_drops_what_it_cannot_read() {
    watchdog("a_worker_answers_or_drops_what_it_cannot_read", LIMIT, || {
        let Some(broker) = shared() else { return };
        let (queue, replies) = (broker.queue("forged"), broker.queue("forged-replies"));
        on_a_channel(broker.url(), async |channel| {
            channel
                .queue_declare(replies.name().into(), QueueDeclareOptions::default(), FieldTable::default())
                .await
        })
        .unwrap();
        // It is to end after the executor, which waits for what is in hand.
        let mut worker = None;
        let executor = connect(broker, &queue);
        let real = executor.submit(reversed, "abc".to_owned());
        let (body, properties) = next(broker, queue.name(), false);
        let mut other_version = body.clone();
        let at = body.len() - 12;
        other_version[at..at + 4].copy_from_slice(&7_u32.to_le_bytes());
        // A text goes as it is.
        let mut not_utf8 = body.clone();
        not_utf8[0] = 0xff;
        let _ = worker.insert(WorkerThread::start(&Setup::new(&queue), list));
        let named = |id: &str| BasicProperties::default().with_message_id(id.into());
        let to_us = |id: &str| named(id).with_reply_to(replies.name().into());
        let forged: [(&[u8], &str); 6] = [
            (b"garbage", "not a message of this library"),
            (b"", "not a message of this library"),
            (&other_version, "version 7"),
            (&body[..body.len() - 1], "not a message of this library"),
            (&not_utf8, "argument"),
            (&body, "cba"),
        ];
        for (number, (body, said)) in forged.into_iter().enumerate() {
            // Nobody could be told of these two.
            publish(broker, queue.name(), body, named("9"));
            publish(broker, queue.name(), body, BasicProperties::default());
            publish(broker, queue.name(), body, to_us(&number.to_string()));
            let (answer, its) = next(broker, replies.name(), false);
            assert_eq!(
                its.correlation_id().as_ref().map(|id| id.as_str().to_owned()),
                Some(number.to_string())
            );
            assert!(
                has(&answer, said),
                "no {said:?} in the answer to message {number}: {}",
                answer.escape_ascii()
            );
            works(&executor);
        }
        // An answer to somebody who is not there is nobody's.
        publish(broker, queue.name(), &body, named("1").with_reply_to("cf.test.nobody".into()));
        publish(broker, queue.name(), &body, properties);
        assert_eq!(real.result().unwrap(), "cba");
        works(&executor);
        assert_eq!(lying(broker, queue.name()), Some(0));
    });
}

#[test]
fn a_client_takes_no_harm_from_what_is_no_reply() {
    watchdog("a_client_takes_no_harm_from_what_is_no_reply", LIMIT, || {
        let Some(broker) = shared() else { return };
        let queue = broker.queue("no-reply");
        let mut worker = None;
        let executor = connect(broker, &queue);
        let future = executor.submit(reversed, "abc".to_owned());
        let (_, properties) = next(broker, queue.name(), false);
        let to = properties.reply_to().as_ref().unwrap().as_str().to_owned();
        let id = properties.message_id().as_ref().unwrap().as_str().to_owned();
        let call = id.strip_suffix(".1").expect("of its first attempt").to_owned();
        assert_eq!(call, future.id().get().to_string());
        let of = |id: &str| BasicProperties::default().with_correlation_id(id.into());
        let nobodys =
            ["not a number", "18446744073709551615.1", &call, &format!("{call}.2"), &format!("{id}.1")];
        for properties in nobodys.map(of).into_iter().chain([BasicProperties::default()]) {
            publish(broker, &to, b"garbage", properties);
        }
        assert!(!future.done());
        publish(broker, &to, b"garbage", of(&id));
        let outcome = future.result();
        let Err(Error::Decode { reason, .. }) = &outcome else { panic!("{outcome:?}") };
        assert!(reason.contains("not a message of this library"), "{reason}");
        let _ = worker.insert(WorkerThread::start(&Setup::new(&queue), list));
        works(&executor);
    });
}

#[test]
fn other_builds_and_sizes_are_refused_by_name() {
    watchdog("other_builds_and_sizes_are_refused_by_name", LIMIT, || {
        let Some(broker) = shared() else { return };
        let queue = broker.queue("other-build");
        let _worker = WorkerThread::start(&Setup::new(&queue), list);
        let executor = connect(broker, &queue);
        let unknown = |outcome: Result<u64, Error>| match outcome {
            Err(Error::Unknown { reason, .. }) => reason,
            other => panic!("{other:?}"),
        };
        let reason = unknown(executor.submit(unlisted, 1).result());
        for known in ["forged::reversed", "forged::zeros", "forged::length", "`register`"] {
            assert!(reason.contains(known), "{reason}");
        }
        let other = build(Build::Client(&executor)).expect_err("it gives the call");
        let reason = unknown(other.result());
        assert!(reason.contains("shape") && reason.contains("same sources"), "{reason}");
        let reason = unknown(executor.try_submit(checked, 1).result());
        assert!(reason.contains("try_register"), "{reason}");

        let small = AmqpExecutor::builder().queue(&queue).max_message_bytes(10_000);
        let small = small.connect(broker.url()).unwrap();
        let encode = |outcome: Result<u64, Error>| match outcome {
            Err(Error::Encode { what, reason, .. }) => (what, reason),
            other => panic!("{other:?}"),
        };
        let (what, reason) = encode(small.submit(length, vec![1; 20_000]).result());
        assert!(
            what == "argument" && reason.contains("10000") && reason.contains("max_message_bytes"),
            "{reason}"
        );
        assert_eq!(small.submit(length, vec![1; 5_000]).result().unwrap(), 5_000);
        let value = executor.submit(zeros, 17 << 20).result();
        let (what, reason) = encode(value.map(|bytes| bytes.len() as u64));
        assert!(what == "return value" && reason.contains("16777216"), "{what}: {reason}");
        works(&executor);
    });
}

/// The variable that makes a copy of this program a client: URL, queue and journal.
const CLIENT: &str = "CF_TEST_AMQP_CLIENT";

/// No test: where a copy of this program begins that is a client.
#[test]
fn client_entry() {
    let Ok(text) = std::env::var(CLIENT) else { return };
    let (url, queue, page): (String, String, Page) = serde_json::from_str(&text).unwrap();
    let builder = AmqpExecutor::builder().queue(queue).window(8).replies_expire(Duration::from_secs(2));
    let executor = builder.connect(&url).unwrap();
    let futures: Vec<_> = (0..20).map(|n| executor.submit(noted, (n, page.clone()))).collect();
    futures.into_iter().for_each(|future| drop(future.result()));
}

#[test]
fn a_client_that_is_killed_leaves_nothing_behind() {
    watchdog("a_client_that_is_killed_leaves_nothing_behind", LIMIT, || {
        let Some(broker) = shared() else { return };
        let (queue, journal) = (broker.queue("client"), Journal::new());
        let text = serde_json::to_string(&(broker.url(), queue.name(), journal.page())).unwrap();
        let mut client = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "forged::client_entry", "--nocapture", "--test-threads=1"])
            .env(CLIENT, text)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // All that fit into its window are out, and nobody has taken any.
        queue.wait_for(8);
        let end = Instant::now() + LONG;
        client.kill().unwrap();
        client.wait().unwrap();
        let (_, properties) = next(broker, queue.name(), true);
        let replies = properties.reply_to().as_ref().unwrap().as_str().to_owned();
        assert!(lying(broker, &replies).is_some(), "its queue outlives it for a while");
        let _worker = WorkerThread::start(&Setup::new(&queue), crate::list);
        // Others are served.
        let executor = connect(broker, &queue);
        let values = executor.map(mixed, 100..200).collect::<Result<Vec<_>, _>>().unwrap();
        assert!(values.into_iter().eq((100..200).map(mixed)));
        while lying(broker, &replies).is_some() {
            assert!(Instant::now() < end, "the queue of replies of a client that is gone is still there");
            // Whoever asks for it uses it, and it has to be unused for so long.
            thread::sleep(Duration::from_secs(3));
        }
        works(&executor);
        // What it had sent was made, once; what it had not went with it.
        let mut made = journal.lines();
        made.sort();
        assert_eq!(made, ["0", "1", "2", "3", "4", "5", "6", "7"]);
        assert_eq!(lying(broker, queue.name()), Some(0));
    });
}
