//! Brokers that say no, that are none, and that do not come back: an error of one kind, which names who is meant and what can
//! be done, and has no word of a password in it.
//!
//! Not here: brokers that come back in time (`faults.rs`). The rule: each refusal is looked at by name, at both sides where
//! both have it, and in all the texts that a user may print.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use concurrent_futures::{AmqpBuilder, AmqpExecutor, AmqpWorker, Error, Executor, Future, Tls};
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;

use crate::broker::{Setup, WorkerThread, on_a_channel, shared};
use crate::common::{LIMIT, watchdog};
use crate::proxy::Proxy;

pub(crate) fn list(worker: AmqpWorker) -> AmqpWorker {
    worker.register(doubled)
}

fn doubled(n: u64) -> u64 {
    n * 2
}

/// The password in a URL.
fn password(url: &str) -> &str {
    let (authority, _) = url.rsplit_once('@').expect("a URL with a user");
    authority.rsplit_once(':').expect("a password").1
}

fn quick() -> AmqpBuilder {
    AmqpExecutor::builder().queue("cf.test.refused").connect_timeout(Duration::from_secs(5))
}

/// Why the broker of that URL does not take us: the text of an `Error::Broker` that has each of those words.
#[track_caller]
fn assert_broker(error: &Error, url: &str, words: &[&str]) {
    let Error::Broker { broker, .. } = error else { panic!("not about the broker: {error:?}") };
    let text = error.to_string();
    let host = &url[url.rfind('@').unwrap() + 1..];
    let host = host.split(['?']).next().unwrap();
    assert!(broker.contains(host) && broker.contains("tester"), "{broker:?} does not name {host}");
    for word in words {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
    for text in [text, format!("{error:?}"), format!("{:?}", causes(error))] {
        assert!(!text.contains(password(url)), "the password is in: {text}");
    }
}

/// The error and those behind it.
fn causes(error: &Error) -> Vec<String> {
    let first: Option<&dyn std::error::Error> = Some(error);
    std::iter::successors(first, |error| error.source()).map(ToString::to_string).collect()
}

/// Neither an executor nor a worker gets in there.
#[track_caller]
fn assert_refused(url: &str, words: &[&str]) {
    let error = quick().connect(url).expect_err("an executor got in");
    println!("{error}");
    assert_broker(&error, url, words);
    let worker = AmqpWorker::builder().queue("cf.test.refused").connect_timeout(Duration::from_secs(5));
    let error = list_and_run(worker.connect(url)).expect_err("a worker got in");
    assert_broker(&error, url, words);
}

fn list_and_run(worker: Result<AmqpWorker, Error>) -> Result<(), Error> {
    list(worker?).run()
}

/// That URL with other parts.
fn with(url: &str, from: &str, to: &str) -> String {
    assert!(url.contains(from), "no {from:?} in that URL");
    url.replacen(from, to, 1)
}

#[test]
fn who_may_not_enter_is_told_why() {
    watchdog("who_may_not_enter_is_told_why", LIMIT, || {
        let Some(broker) = shared() else { return };
        let url = broker.url();
        let wrong = with(url, &format!(":{}@", password(url)), ":sesame@");
        assert_refused(&wrong, &["`tester`", "wrong password"]);
        assert_refused(&with(url, "/cf", "/nowhere"), &["`nowhere`", "add_vhost"]);
        assert_refused(&with(url, "/cf", "/other"), &["`other`", "set_permissions"]);
        let error = AmqpExecutor::builder().queue("theirs").connect(url).unwrap_err();
        assert_broker(&error, url, &["theirs", "permissions"]);
        let worker = AmqpWorker::builder().queue("theirs").connect(url);
        assert_broker(&list_and_run(worker).unwrap_err(), url, &["theirs", "permissions"]);
    });
}

#[test]
fn a_queue_that_is_made_in_another_way_is_refused() {
    watchdog("a_queue_that_is_made_in_another_way_is_refused", LIMIT, || {
        let Some(broker) = shared() else { return };
        let queue = broker.queue("other-way");
        on_a_channel(broker.url(), async |channel| {
            let options = QueueDeclareOptions { durable: true, ..Default::default() };
            channel.queue_declare(queue.name().into(), options, FieldTable::default()).await
        })
        .unwrap();
        let words = &[queue.name(), "made in another way", "same options"];
        let error = AmqpExecutor::builder().queue(&queue).connect(broker.url()).unwrap_err();
        assert_broker(&error, broker.url(), words);
        let worker = AmqpWorker::builder().queue(&queue).connect(broker.url());
        assert_broker(&list_and_run(worker).unwrap_err(), broker.url(), words);
        // As it was made, it is taken.
        let builder = AmqpExecutor::builder().queue(&queue).quorum(false);
        drop(builder.connect(broker.url()).unwrap());
    });
}

/// A port at which that is answered to whatever comes.
fn stranger(answer: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let _ = stream.read(&mut [0; 8]);
                let _ = stream.write_all(answer);
                let _ = stream.read(&mut [0; 8]);
            });
        }
    });
    port
}

#[test]
fn what_is_no_broker_is_called_so() {
    watchdog("what_is_no_broker_is_called_so", LIMIT, || {
        if shared().is_none() {
            return;
        }
        let url = |port: u16| format!("amqp://tester:sesame@127.0.0.1:{port}/cf");
        // Bound, so that it is nobody else's, and not listened at.
        let socket =
            rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None);
        let socket = socket.unwrap();
        rustix::net::bind(&socket, &std::net::SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = std::net::SocketAddr::try_from(rustix::net::getsockname(&socket).unwrap()).unwrap();
        assert_refused(&url(address.port()), &["cannot be reached"]);
        assert_refused(&url(stranger(b"HTTP/1.1 400 Bad Request\r\n\r\n")), &["AMQP"]);
        assert_refused(&url(stranger(b"AMQP\x03\x01\x00\x00")), &["AMQP"]);
        assert_refused(&url(stranger(b"SSH-2.0-OpenSSH_9.2\r\n")), &["AMQP"]);
        // It says nothing at all.
        assert_refused(&url(stranger(b"")), &["no answer within 5s"]);
        let error = quick().connect("amqp://tester:sesame@no-such-host.invalid:5672/cf").unwrap_err();
        assert_broker(&error, "amqp://tester:sesame@no-such-host.invalid:5672/cf", &["no-such-host.invalid"]);
        for wrong in ["amqp://tester:sesame@127.0.0.1:99999/cf", "http://tester:sesame@127.0.0.1/", "sesame"]
        {
            let error = quick().connect(wrong).unwrap_err();
            assert!(matches!(error, Error::InvalidArgument { .. }), "{error:?}");
            assert!(!format!("{error} {error:?}").contains("sesame"), "{error}");
        }
    });
}

#[test]
fn tls_trusts_whom_it_is_told_to() {
    watchdog("tls_trusts_whom_it_is_told_to", LIMIT, || {
        let Some((broker, amqps, ca)) =
            shared().and_then(|broker| Some((broker, broker.amqps()?, broker.ca()?)))
        else {
            return;
        };
        // It is signed by nobody whom the system knows.
        assert_refused(amqps, &["TLS", "certificate", "`Tls`"]);
        let trusting = || Tls::new().roots(ca);
        let queue = broker.queue("tls");
        let _worker = WorkerThread::start(&Setup::new(&queue), list);
        let executor = AmqpExecutor::builder().queue(&queue).tls(trusting()).connect(amqps).unwrap();
        assert_eq!(executor.submit(doubled, 21).result().unwrap(), 42);
        drop(executor);
        // Another name than it says.
        let port = amqps.rsplit_once(':').unwrap().1.split_once('/').unwrap().0;
        let proxy = Proxy::at("127.0.0.2", port.parse().unwrap());
        let other = with(&proxy.url(amqps), "localhost", "127.0.0.2");
        let error = quick().tls(trusting()).connect(&other).unwrap_err();
        assert_broker(&error, &other, &["TLS", "name"]);
        // TLS where there is none, and none where there is.
        let plain_port = broker.url().rsplit_once(':').unwrap().1.split_once('/').unwrap().0;
        let plain = with(amqps, port, plain_port);
        let error = quick().tls(trusting()).connect(&plain).unwrap_err();
        assert_broker(&error, &plain, &["TLS"]);
        let bare = with(broker.url(), plain_port, port);
        let error = quick().connect(&bare).unwrap_err();
        println!("{error}");
        assert_broker(&error, &bare, &[]);
    });
}

#[track_caller]
fn ends_with_broker(mut future: Future<u64>, url: &str) {
    match future.result_timeout(Duration::from_secs(60)) {
        Err(error @ Error::Broker { .. }) => assert_broker(&error, url, &[]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_broker_that_is_away_for_too_long_ends_calls_and_those_after_work_again() {
    watchdog("a_broker_that_is_away_for_too_long_ends_calls_and_those_after_work_again", LIMIT, || {
        let Some(broker) = shared() else { return };
        let queue = broker.queue("away");
        let patience = Duration::from_secs(4);
        let proxy = Proxy::before(broker.url());
        let url = proxy.url(broker.url());
        let builder = AmqpExecutor::builder().queue(&queue).window(4).broker_timeout(patience);
        let executor = builder.connect(&url).unwrap();
        assert!(!format!("{executor:?}").contains(password(&url)));
        // In hand, four of them, and queued: there is no worker.
        let waiting: Vec<_> = (0..10).map(|n| executor.submit(doubled, n)).collect();
        proxy.refuse();
        proxy.cut();
        for future in waiting {
            ends_with_broker(future, &url);
        }
        // That it is away is known: what is submitted now does not wait that long again.
        let mut late = executor.submit(doubled, 1);
        assert!(matches!(late.result_timeout(patience / 2), Err(Error::Broker { .. })), "{late:?}");
        proxy.heal();
        let _worker = WorkerThread::start(&Setup::new(&queue), list);
        let end = Instant::now() + Duration::from_secs(60);
        let value = loop {
            match executor.submit(doubled, 4).result() {
                Err(Error::Broker { .. }) if Instant::now() < end => thread::sleep(Duration::from_millis(20)),
                outcome => break outcome,
            }
        };
        assert_eq!(value.unwrap(), 8);
    });
}

#[test]
fn a_broker_that_went_while_nobody_called_is_away_since_then() {
    watchdog("a_broker_that_went_while_nobody_called_is_away_since_then", LIMIT, || {
        let Some(broker) = shared() else { return };
        let queue = broker.queue("idle");
        let patience = Duration::from_secs(5);
        let proxy = Proxy::before(broker.url());
        let url = proxy.url(broker.url());
        let executor = AmqpExecutor::builder().queue(&queue).broker_timeout(patience).connect(&url).unwrap();
        proxy.refuse();
        proxy.cut();
        // It is time that has to pass here.
        thread::sleep(patience + Duration::from_millis(500));
        let mut late = executor.submit(doubled, 1);
        assert!(matches!(late.result_timeout(patience / 2), Err(Error::Broker { .. })), "{late:?}");
    });
}
