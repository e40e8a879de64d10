//! The post of a client: the one thread that talks with the broker for it. It knows messages by [`Id`], and not what is in
//! them.
//!
//! ```text
//!              orders                          ┌─ connection ── channel ──▶ the queue of tasks
//!   context ───────────▶ post, one thread ─────┤
//!           ◀───────────                       └─ connection ── channel ◀── our queue of replies
//!              heard
//! ```
//!
//! Two connections, because a broker that is short of memory reads nothing more of one that publishes, not even that a
//! reply has arrived.
//!
//! | heard       | means                                                                              |
//! |-------------|------------------------------------------------------------------------------------|
//! | `Up`        | there is a session. `fresh`: the queues of before are gone, and all that was in them |
//! | `Confirmed` | the broker has that message, and answers for it                                    |
//! | `Reply`     | a body, for that message                                                           |
//! | `Look`      | the number of workers has changed (or somebody else wants the context to look)     |
//! | `TooLong`   | the broker takes no message of that length, and does not say which it was; `Away` comes next |
//! | `Away`      | the session has ended, or there was none to be had, and since when there is none; another is tried after a pause |
//!
//! Orders are of a session: those of one that has ended mean nothing. Whoever gave them gives those that were not
//! confirmed again when the next is up.
//!
//! Not here: what is done with all that (`context.rs`). The rule: nothing that this thread waits for is without a limit
//! but the next order and the next thing heard; no code of the user runs in it.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, Consumer, ErrorKind};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::link::{Address, Trouble};
use super::settings::Settings;
use crate::error::Error;

/// The pause after the first failure; then twice as long each time, up to the longest.
pub(super) const PAUSE: Duration = Duration::from_millis(50);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// So many are handed to the connection at a time.
const BATCH: usize = 256;

/// A message that the broker has no room for is offered again after that.
pub(super) const FULL: Duration = Duration::from_millis(100);

/// How often it is looked whether connections are there, and asked how many consumers.
pub(super) const ASK: Duration = Duration::from_secs(1);

/// What queues there are, and how.
#[derive(Clone, Debug)]
pub(super) struct Queues {
    /// Of the queue of calls, and of how messages are kept.
    pub(super) settings: Settings,
    pub(super) replies: String,
    /// How long the replies of a client that does not come back are kept.
    pub(super) expires: Duration,
}

/// An attempt of a call: what was meant for one of them means nothing for the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id {
    /// The number of its future.
    pub(super) call: u64,
    pub(super) attempt: u32,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.call, self.attempt)
    }
}

impl Id {
    /// Of what is written so, or nobody's.
    fn read(text: &str) -> Option<Id> {
        let (call, attempt) = text.split_once('.')?;
        Some(Id { call: call.parse().ok()?, attempt: attempt.parse().ok()? })
    }
}

/// What the post is to do.
pub(super) enum Order {
    Send {
        session: u64,
        id: Id,
        body: Arc<Vec<u8>>,
        priority: u8,
    },
    /// The end of all.
    Close,
}

/// What it has to say.
#[derive(Debug)]
pub(super) enum Heard {
    Up {
        session: u64,
        fresh: bool,
    },
    Confirmed(Id),
    Reply {
        id: Id,
        body: Vec<u8>,
    },
    /// What the broker says.
    TooLong(String),
    Away {
        since: Instant,
        error: Error,
    },
    /// Somebody wants the one who listens to look around.
    Look,
}

/// What the broker last said of the queue of tasks.
#[derive(Default)]
pub(super) struct Seen {
    /// So many consumers; 0 if it has not said so.
    pub(super) workers: AtomicUsize,
    /// Since when there were no tasks in it, whenever it was asked in this session. Absent if there were, and without one.
    empty_since: Mutex<Option<Instant>>,
}

impl Seen {
    /// What was seen: are there tasks in it, or may there be?
    fn note_tasks(&self, are_there: bool) {
        let mut since = self.empty_since.lock();
        *since = if are_there { None } else { since.or_else(|| Some(Instant::now())) };
    }

    pub(super) fn is_empty_for(&self, time: Duration) -> bool {
        self.empty_since.lock().is_some_and(|since| since.elapsed() >= time)
    }
}

/// What talks with a broker, in one thread.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::spawn("the runtime that talks with the broker", error))
}

/// The client's side of it.
pub(super) struct Post {
    orders: mpsc::UnboundedSender<Order>,
    thread: Option<JoinHandle<()>>,
}

impl Post {
    /// Opens a first session, and goes on with others.
    ///
    /// `seen`: where it writes what the broker says of the queue of tasks.
    pub(super) fn open(
        address: Address,
        queues: Queues,
        heard: Sender<Heard>,
        seen: Arc<Seen>,
    ) -> Result<Post, Error> {
        let (orders, taken) = mpsc::unbounded_channel();
        let (tell, opened) = crossbeam_channel::bounded(1);
        let runtime = runtime()?;
        let office = Office { address, queues, heard, seen, orders: taken, session: 0 };
        let thread = std::thread::Builder::new()
            .name("amqp".into())
            .spawn(move || runtime.block_on(office.work(&tell)))
            .map_err(|error| Error::spawn("the thread that talks with the broker", error))?;
        let post = Post { orders, thread: Some(thread) };
        match opened.recv() {
            Ok(Some(error)) => Err(error),
            Ok(None) => Ok(post),
            Err(_) => {
                Err(Error::broken("the thread that talks with the broker ended; please report this", None))
            }
        }
    }

    pub(super) fn order(&self, order: Order) {
        // A post that is closed has nothing to do any more.
        let _ = self.orders.send(order);
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        self.order(Order::Close);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Office {
    address: Address,
    queues: Queues,
    heard: Sender<Heard>,
    seen: Arc<Seen>,
    orders: mpsc::UnboundedReceiver<Order>,
    session: u64,
}

/// How a session ended.
enum End {
    Closed,
    Lost(Error),
}

impl Office {
    async fn work(mut self, opened: &Sender<Option<Error>>) {
        let mut pause = PAUSE;
        let mut since = Instant::now();
        loop {
            let opening = Session::open(&self.address, &self.queues);
            let opening = tokio::select! {
                biased;
                opening = opening => opening,
                // It may take its time, and nobody waits for it any more.
                () = closed(&mut self.orders) => return,
            };
            let error = match opening {
                Ok((session, fresh)) => {
                    self.session += 1;
                    pause = PAUSE;
                    let _ = opened.try_send(None);
                    self.tell(Heard::Up { session: self.session, fresh });
                    let end = self.serve(&session).await;
                    self.seen.note_tasks(true);
                    since = Instant::now();
                    match end {
                        End::Closed => return session.close(&self.queues, self.address.limit).await,
                        End::Lost(error) => error,
                    }
                }
                Err(trouble) if self.session == 0 => {
                    let _ = opened.try_send(Some(trouble.into_error()));
                    return;
                }
                Err(trouble) => trouble.into_error(),
            };
            self.tell(Heard::Away { since, error });
            if timeout(jittered(pause), closed(&mut self.orders)).await.is_ok() {
                return;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn tell(&self, heard: Heard) {
        // Nobody listens any more: then `Close` is on its way.
        let _ = self.heard.send(heard);
    }

    async fn serve(&mut self, session: &Session) -> End {
        let Office { address, queues, heard, seen, orders, session: number } = self;
        let lost = |error: lapin::Error| {
            if is_too_long(&error) {
                let _ = heard.send(Heard::TooLong(error.to_string()));
            }
            End::Lost(address.error(format!("the connection was lost: {error}")))
        };
        tokio::select! {
            end = session.send_all(queues, orders, *number, heard) => match end {
                Ok(()) => End::Closed,
                Err(error) => lost(error),
            },
            error = session.receive_all(heard) => lost(error),
            error = session.ask(queues, address.limit, heard, seen) => lost(error),
        }
    }
}

/// Until nothing is to be done any more. Passes over what cannot be sent.
async fn closed(orders: &mut mpsc::UnboundedReceiver<Order>) {
    while let Some(Order::Send { .. }) = orders.recv().await {}
}

/// What there is while the broker is there.
struct Session {
    publishing: Connection,
    consuming: Connection,
    out: Channel,
    /// To ask on: what is wrong there closes the channel.
    questions: Channel,
    replies: Consumer,
    back: Channel,
}

impl Session {
    /// True: the queues of before are gone.
    async fn open(address: &Address, queues: &Queues) -> Result<(Session, bool), Trouble> {
        let publishing = address.connect().await?;
        let consuming = address.connect().await?;
        let opening = async {
            let (has_tasks, out) =
                declared_alike(&publishing, &queues.settings.queue, &queues.settings.declaration()).await?;
            out.confirm_select(ConfirmSelectOptions::default()).await?;
            let (has_replies, back) = declared(&consuming, &queues.replies, &queues.for_replies()).await?;
            let consume = BasicConsumeOptions::default();
            let replies =
                back.basic_consume(short(&queues.replies), short(""), consume, FieldTable::default()).await?;
            let questions = publishing.create_channel().await?;
            Ok((out, back, replies, questions, !(has_tasks && has_replies)))
        };
        match timeout(address.limit, opening).await {
            Ok(Ok((out, back, replies, questions, fresh))) => {
                Ok((Session { publishing, consuming, out, questions, replies, back }, fresh))
            }
            Ok(Err(error)) => Err(address.refusal(&error)),
            Err(_) => Err(Trouble::Away(address.late())),
        }
    }

    /// Until there is nothing more to send.
    async fn send_all(
        &self,
        queues: &Queues,
        orders: &mut mpsc::UnboundedReceiver<Order>,
        session: u64,
        heard: &Sender<Heard>,
    ) -> Result<(), lapin::Error> {
        let mut batch = Vec::new();
        let mut unconfirmed = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                Some(confirmed) = unconfirmed.next() => match confirmed {
                    Ok(id) => drop(heard.send(Heard::Confirmed(id))),
                    Err(error) => return Err(error),
                },
                count = orders.recv_many(&mut batch, BATCH) => {
                    let is_last = count == 0 || batch.iter().any(|order| matches!(order, Order::Close));
                    let letters = batch.drain(..).filter_map(|order| match order {
                        Order::Send { session: its, id, body, priority } if its == session => {
                            Some(Letter { id, body, priority })
                        }
                        _ => None,
                    });
                    // Each is first polled in this order, by this task alone: so the broker's confirms are counted right.
                    let sent = join_all(letters.map(|letter| self.send(queues, letter))).await;
                    for sent in sent {
                        let (letter, confirm) = sent?;
                        unconfirmed.push(self.see_through(queues, letter, confirm));
                    }
                    if is_last {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn send(
        &self,
        queues: &Queues,
        letter: Letter,
    ) -> Result<(Letter, lapin::PublisherConfirm), lapin::Error> {
        let id = ShortString::from(letter.id.to_string());
        let properties = BasicProperties::default()
            .with_message_id(id.clone())
            .with_correlation_id(id)
            .with_reply_to(short(&queues.replies))
            .with_priority(letter.priority)
            .with_delivery_mode(if queues.settings.persistent { 2 } else { 1 });
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let confirm = self
            .out
            .basic_publish(short(""), short(&queues.settings.queue), options, &letter.body, properties)
            .await?;
        Ok((letter, confirm))
    }

    /// Until the broker answers for it.
    async fn see_through(
        &self,
        queues: &Queues,
        mut letter: Letter,
        mut confirm: lapin::PublisherConfirm,
    ) -> Result<Id, lapin::Error> {
        loop {
            match confirm.await? {
                // Which of those on their way came back is not known (lapin hands it to the next that is confirmed), nor
                // need it be: the queue is gone.
                Confirmation::Ack(Some(_)) => {
                    return Err(io::Error::new(io::ErrorKind::NotFound, "the queue of tasks is gone").into());
                }
                Confirmation::Nack(_) => {
                    sleep(FULL).await;
                    (letter, confirm) = self.send(queues, letter).await?;
                }
                Confirmation::Ack(None) | Confirmation::NotRequested => return Ok(letter.id),
            }
        }
    }

    /// Until there is nothing more to receive.
    async fn receive_all(&self, heard: &Sender<Heard>) -> lapin::Error {
        let mut replies = self.replies.clone().ready_chunks(BATCH);
        while let Some(ready) = replies.next().await {
            let mut last = None;
            for delivery in ready {
                let delivery = match delivery {
                    Ok(delivery) => delivery,
                    Err(error) => return error,
                };
                last = Some(delivery.delivery_tag);
                let id = delivery.properties.correlation_id().as_ref();
                // What has no number of ours is nobody's reply.
                if let Some(id) = id.and_then(|id| Id::read(id.as_str())) {
                    let _ = heard.send(Heard::Reply { id, body: delivery.data });
                }
            }
            // All that came together are acknowledged together.
            let all = BasicAckOptions { multiple: true };
            if let Some(last) = last
                && let Err(error) = self.back.basic_ack(last, all).await
            {
                return error;
            }
        }
        io::Error::new(io::ErrorKind::NotFound, "the queue of replies is gone").into()
    }

    /// Asks how many consumers and tasks there are, until there is no answer.
    async fn ask(
        &self,
        queues: &Queues,
        limit: Duration,
        heard: &Sender<Heard>,
        seen: &Seen,
    ) -> lapin::Error {
        loop {
            if let Err(error) = are_open([&self.publishing, &self.consuming], [&self.out, &self.back]) {
                return error;
            }
            let options = QueueDeclareOptions { passive: true, ..Default::default() };
            let asking =
                self.questions.queue_declare(short(&queues.settings.queue), options, FieldTable::default());
            match timeout(limit, asking).await {
                Ok(Ok(queue)) => {
                    let count = queue.consumer_count() as usize;
                    if seen.workers.swap(count, Ordering::Relaxed) != count {
                        let _ = heard.send(Heard::Look);
                    }
                    // Nor do workers say anything while nobody may.
                    seen.note_tasks(queue.message_count() > 0 || self.publishing.status().blocked());
                }
                Ok(Err(error)) => return error,
                // The broker is short of memory, and reads nothing that comes from a connection that publishes.
                Err(_) => seen.note_tasks(true),
            }
            sleep(ASK).await;
        }
    }

    async fn close(self, queues: &Queues, limit: Duration) {
        let Session { publishing, consuming, out: _out, questions: _questions, replies, back } = self;
        let _ = timeout(limit, async {
            // Not after the queue is gone: RabbitMQ 3.10 closes the connection for that.
            let _ = back.basic_cancel(replies.tag(), Default::default()).await;
            let _ = back.queue_delete(short(&queues.replies), QueueDeleteOptions::default()).await;
            let _ = publishing.close(200, short("done")).await;
            let _ = consuming.close(200, short("done")).await;
        })
        .await;
    }
}

/// A message on its way.
struct Letter {
    id: Id,
    body: Arc<Vec<u8>>,
    priority: u8,
}

impl Queues {
    fn for_replies(&self) -> (QueueDeclareOptions, FieldTable) {
        let mut arguments = FieldTable::default();
        let expires = i64::try_from(self.expires.as_millis().max(1)).unwrap_or(i64::MAX);
        arguments.insert("x-expires".into(), AMQPValue::LongLongInt(expires));
        (QueueDeclareOptions { durable: self.settings.persistent, ..Default::default() }, arguments)
    }
}

/// A channel on a connection, and a queue: was it there?
pub(super) async fn declared(
    connection: &Connection,
    name: &str,
    (options, arguments): &(QueueDeclareOptions, FieldTable),
) -> Result<(bool, Channel), lapin::Error> {
    let channel = connection.create_channel().await?;
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    match channel.queue_declare(short(name), passive, FieldTable::default()).await {
        Ok(_) => return Ok((true, channel)),
        Err(error) if is_answer(&error, 404) => {}
        Err(error) => return Err(error),
    }
    // The question has closed the channel.
    let channel = connection.create_channel().await?;
    channel.queue_declare(short(name), *options, arguments.clone()).await?;
    Ok((false, channel))
}

/// The same, and if it was there, it was made in that way. Who may use queues and not make them takes what there is.
pub(super) async fn declared_alike(
    connection: &Connection,
    name: &str,
    how: &(QueueDeclareOptions, FieldTable),
) -> Result<(bool, Channel), lapin::Error> {
    let (was_there, channel) = declared(connection, name, how).await?;
    if was_there {
        match channel.queue_declare(short(name), how.0, how.1.clone()).await {
            Ok(_) => {}
            Err(error) if is_answer(&error, 403) => return Ok((true, connection.create_channel().await?)),
            Err(error) => return Err(error),
        }
    }
    Ok((was_there, channel))
}

/// Are they all there? Whoever waits on one that ends is told by an error; but not who begins to wait in that very moment: lapin
/// 4.12 rejects the confirms that are on their way, and takes one more that is never answered. So it is looked now and then.
pub(super) fn are_open(connections: [&Connection; 2], channels: [&Channel; 2]) -> Result<(), lapin::Error> {
    let is_open = connections.into_iter().all(|connection| connection.status().connected())
        && channels.into_iter().all(|channel| channel.status().connected());
    let gone = || io::Error::new(io::ErrorKind::NotConnected, "it has ended, and nobody was told").into();
    if is_open { Ok(()) } else { Err(gone()) }
}

pub(super) fn is_answer(error: &lapin::Error, number: u16) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(refusal) if refusal.get_id() == number)
}

/// Is it the answer to a message that is longer than the broker takes?
pub(super) fn is_too_long(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(refusal) if refusal.get_id() == 406
        && refusal.get_message().as_str().contains("max size"))
}

pub(super) fn short(name: &str) -> ShortString {
    ShortString::from(name)
}

/// Between a half and the whole of it, so that those who lost a broker together do not come back together.
pub(super) fn jittered(pause: Duration) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one(pause) as u32;
    pause.mul_f64(0.5 + f64::from(random) / f64::from(u32::MAX) / 2.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_is_read_as_it_was_written(call: u64, attempt: u32) {
            let id = Id { call, attempt };
            prop_assert_eq!(Id::read(&id.to_string()), Some(id));
        }

        #[test]
        fn what_is_no_id_is_nobodys(text in ".{0,40}") {
            // Digits may have zeros or a sign before them.
            if let Some(id) = Id::read(&text) {
                let (call, attempt) = text.split_once('.').unwrap();
                prop_assert_eq!((call.parse(), attempt.parse()), (Ok(id.call), Ok(id.attempt)));
            }
        }

        #[test]
        fn a_pause_is_shortened_by_half_at_the_most(millis in 1_u64..100_000) {
            let pause = Duration::from_millis(millis);
            prop_assert!((pause / 2..=pause).contains(&jittered(pause)));
        }
    }
}
