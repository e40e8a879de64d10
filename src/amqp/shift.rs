//! The work of an AMQP worker: sessions with the broker, one after the other, in which what is in hand (`bench.rs`) is
//! taken, made, answered and acknowledged.
//!
//! ```text
//!                         ┌─ connection ── channel ◀── the queue of calls ── calls, acknowledgements
//!   Shift ── Session ─────┤            └── channel ◀── a queue of our own, once a call takes long
//!     │                   └─ connection ── channel ──▶ replies, and what is given back
//!     └─ pool: the calls               └── channel ──▶ copies of calls that take long
//! ```
//!
//! Two connections, because a broker that is short of memory reads nothing more of one that publishes, not even that a
//! call was acknowledged.
//!
//! A call that takes long: RabbitMQ closes the channel of a delivery that is not acknowledged for 30 minutes
//! (`consumer_timeout`). So at times a copy of the message is put into a queue of this worker's own, and takes the place of
//! the delivery. It is delivered to this worker at once. If that ends, the copy is over its time by then, or soon, and goes
//! back to the queue of calls by itself.
//!
//! Not here: what becomes of a delivery (`bench.rs`), the list of functions (`list.rs`). The rule: whatever is waited for
//! here ends by itself, by a limit, by the heartbeat or by being told to stop at once; but for the calls.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::Either;
use futures_util::stream::{FuturesUnordered, StreamExt};
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, Consumer};
use tokio::sync::{Mutex, watch};
use tokio::time::{sleep, sleep_until, timeout};

use super::bench::{Arrival, Begin, Bench, Finish, From, Key, Letter, News, Receipt, Terms, To};
use super::forwarded::{Forwarded, Served};
use super::link::{Address, Trouble};
use super::list::List;
use super::message::{self, Ended};
use super::notes::Notes;
use super::post::{
    ASK, FULL, LONGEST_PAUSE, PAUSE, are_open, declared_alike, is_answer, is_too_long, jittered, short,
};
use super::settings::{Settings, USUAL, unique};
use crate::error::{Error, RemoteError};
use crate::executor::Executor;
use crate::future::Future;
use crate::task::Task;
use crate::wire::message::{Failure, RemoteCause};

/// A consumer is cancelled when nothing has come for so long (or so late, if it does not end). What a quorum queue has on its way
/// then (RabbitMQ 3.10) it delivers after it has said that the consumer is no more, and lapin, which knows of none, drops it:
/// seen for each suspect that had a neighbour in the queue. Nobody would have it until the session ends. So what there is comes
/// first, as far as the prefetch goes; and after a consumer was cancelled, there is a new session before the next.
const CALM: Duration = Duration::from_millis(250);
const LATEST: Duration = Duration::from_secs(2);

/// How long a copy lies in our queue, before it goes back to the queue of calls: a tenth of the time for which a delivery is
/// held, in these bounds.
const HELD: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// How long a queue of our own is there when nobody uses it. Longer than anything lies in it: what is in it then is gone.
const HELD_EXPIRES: Duration = Duration::from_secs(3600);

/// Tells a worker to stop.
#[derive(Clone, Debug)]
pub(super) struct Stop(Arc<watch::Sender<Asked>>);

/// What a worker was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Asked {
    Nothing,
    /// To finish what runs.
    Stop,
    /// To leave it.
    Leave,
}

impl Default for Stop {
    fn default() -> Self {
        Stop(Arc::new(watch::Sender::new(Asked::Nothing)))
    }
}

impl Stop {
    /// It is to finish what runs, and stop.
    pub(super) fn stop(&self) {
        self.raise(Asked::Stop);
    }

    /// The same, or at once, if it was told before.
    pub(super) fn stop_or_leave(&self) {
        let next = if self.is_asked() { Asked::Leave } else { Asked::Stop };
        self.raise(next);
    }

    fn raise(&self, to: Asked) {
        self.0.send_if_modified(|asked| {
            let is_more = to > *asked;
            *asked = to.max(*asked);
            is_more
        });
    }

    pub(super) fn is_asked(&self) -> bool {
        *self.0.borrow() >= Asked::Stop
    }

    async fn asked(&self) {
        self.reached(Asked::Stop).await;
    }

    /// It is to leave what runs.
    async fn at_once(&self) {
        self.reached(Asked::Leave).await;
    }

    async fn reached(&self, what: Asked) {
        // The sender is ours, so this ends by what is waited for only.
        let _ = self.0.subscribe().wait_for(|asked| *asked >= what).await;
    }
}

/// That a call is still in hand is said at the broker no longer than for that, in milliseconds: its client may be gone, or
/// away.
const NEWS: &str = "60000";

/// What a worker is, while it works.
pub(super) struct Shift<'w> {
    pub(super) address: &'w Address,
    pub(super) settings: &'w Settings,
    pub(super) terms: &'w Terms,
    pub(super) list: &'w List,
    /// The queue for copies of calls that take long.
    pub(super) held: String,
    /// How long the broker may be away.
    pub(super) patience: Option<Duration>,
    pub(super) stop: &'w Stop,
    pub(super) pool: &'w dyn Executor,
    pub(super) notes: &'w Notes,
}

/// The calls that run, to be waited for.
type Calls =
    FuturesUnordered<Pin<Box<dyn std::future::Future<Output = (Key, Result<Served, Error>)> + Send>>>;

/// What comes after a session that was not lost.
enum Then {
    End,
    AnotherOne,
}

/// Why there is no session.
pub(super) enum NoSession {
    /// It may come back.
    Away(Error),
    /// The broker says no.
    Refused(Error),
    /// What it has is not what we need, and will not be.
    Unfit(Error),
}

impl NoSession {
    pub(super) fn into_error(self) -> Error {
        match self {
            NoSession::Away(error) | NoSession::Refused(error) | NoSession::Unfit(error) => error,
        }
    }
}

impl std::convert::From<Trouble> for NoSession {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Away(error) => NoSession::Away(error),
            Trouble::Refused(error) => NoSession::Refused(error),
        }
    }
}

impl<'w> Shift<'w> {
    /// Works until it is told to stop, or cannot work any more.
    pub(super) async fn work(&self) -> Result<(), Error> {
        let mut work = Work {
            shift: self,
            bench: Bench::new(self.terms, self.settings, self.list),
            calls: FuturesUnordered::new(),
            needs_held: false,
            has_consumed: false,
            was_stopping: false,
            broken: None,
        };
        let outcome = tokio::select! {
            biased;
            () = self.stop.at_once() => None,
            outcome = work.work() => Some(outcome),
        };
        outcome.unwrap_or_else(|| {
            let (running, unanswered) = (work.bench.running(), work.bench.unanswered());
            let reason = format!(
                "the worker was told a second time to stop, and left {running} calls that ran and {unanswered} results that \
                 were not sent; the broker gives those calls to another worker"
            );
            Err(Error::broken(reason, None))
        })
    }

    /// What the broker answers within its time.
    async fn within<T>(
        &self,
        asking: impl std::future::Future<Output = Result<T, lapin::Error>>,
    ) -> Result<T, lapin::Error> {
        let late = || io::Error::new(io::ErrorKind::TimedOut, "the broker does not answer");
        timeout(self.address.limit, asking).await.unwrap_or_else(|_| Err(late().into()))
    }

    /// The queue of calls that take long, and who consumes it.
    async fn open_held(&self, session: &Session) -> Result<Held, lapin::Error> {
        self.within(Held::open(session, &self.held, self.settings, self.terms.renew_every)).await
    }
}

/// A shift that is on.
struct Work<'s> {
    shift: &'s Shift<'s>,
    bench: Bench<'s>,
    calls: Calls,
    /// Something was put by.
    needs_held: bool,
    /// It is a consumer, or was one.
    has_consumed: bool,
    was_stopping: bool,
    /// Why the pool makes no calls any more.
    broken: Option<Error>,
}

impl Work<'_> {
    async fn work(&mut self) -> Result<(), Error> {
        let &Shift { address, settings, terms, notes, patience, stop, .. } = self.shift;
        let mut pause = PAUSE;
        let mut has_been_here = false;
        // Since when there is no session.
        let mut away: Option<Instant> = None;
        // Since when there is nothing left to do but to tell of it.
        let mut finished: Option<Instant> = None;
        loop {
            let opened = tokio::select! {
                biased;
                () = stop.asked(), if self.bench.is_clear() => return Ok(()),
                opened = Session::open(address, settings, terms.width) => opened,
            };
            let error = match opened {
                Ok(session) => {
                    if away.is_some() || !has_been_here {
                        notes.up(away.map(|since| since.elapsed()));
                    }
                    (pause, has_been_here, away) = (PAUSE, true, None);
                    self.bench.open();
                    match self.serve(&session).await {
                        Ok(Then::End) => {
                            session.close(address.limit).await;
                            return self.broken.take().map_or(Ok(()), Err);
                        }
                        Ok(Then::AnotherOne) => {
                            session.close(address.limit).await;
                            self.bench.lose();
                            continue;
                        }
                        Err(error) => {
                            // What it may not do now, it may not do later. Once it has taken calls, that is up to an operator
                            // who may be at it just now.
                            if !self.has_consumed && is_answer(&error, 403) {
                                return Err(address.refusal(&error).into_error());
                            }
                            if is_too_long(&error) {
                                self.bench.shorten(&error.to_string());
                            }
                            address.error(format!("the connection was lost: {error}"))
                        }
                    }
                }
                Err(NoSession::Unfit(error)) => return Err(error),
                Err(NoSession::Refused(error)) if !has_been_here => return Err(error),
                Err(error) => error.into_error(),
            };
            self.bench.lose();
            let since = *away.get_or_insert_with(Instant::now);
            notes.away(&error);
            self.heed_stop();
            if patience.is_some_and(|patience| since.elapsed() >= patience) {
                return Err(error);
            }
            self.wait_out(jittered(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            if (stop.is_asked() || self.broken.is_some()) && self.bench.running() == 0 {
                let unanswered = self.bench.unanswered();
                if unanswered == 0 {
                    return self.broken.take().map_or(Ok(()), Err);
                }
                if finished.get_or_insert_with(Instant::now).elapsed() >= address.limit {
                    return Err(address.error(format!(
                        "it was away when the worker stopped, and {unanswered} results could not be sent; it gives those calls \
                         to another worker ({error})"
                    )));
                }
            }
        }
    }

    /// Has the bench stop, if somebody wants that.
    fn heed_stop(&mut self) {
        let is_over = self.shift.stop.is_asked() || self.broken.is_some();
        if is_over && !std::mem::replace(&mut self.was_stopping, true) {
            self.shift.notes.stopping(self.bench.running(), self.broken.as_ref());
            self.bench.stop();
        }
    }

    /// Hears of calls that end, for so long; no longer, if it is told to stop meanwhile.
    async fn wait_out(&mut self, pause: Duration) {
        let mut over = pin!(sleep(pause));
        loop {
            tokio::select! {
                biased;
                Some((key, outcome)) = self.calls.next() => self.end(&key, outcome),
                () = &mut over => return,
                () = self.shift.stop.asked(), if !self.was_stopping => return,
            }
        }
    }

    fn end(&mut self, key: &Key, outcome: Result<Served, Error>) {
        let finish = finish(outcome).unwrap_or_else(|error| {
            self.broken.get_or_insert(error);
            Finish::NotMade { counts: false }
        });
        self.bench.end(key, finish, Instant::now());
    }

    /// Works in a session, until that is over or nothing is left to do.
    async fn serve(&mut self, session: &Session) -> Result<Then, lapin::Error> {
        let shift = self.shift;
        let mut on_their_way = FuturesUnordered::new();
        let mut consumer: Option<Consumer> = None;
        let mut held: Option<Held> = None;
        // It need not be exact.
        let tick = ASK.min(shift.terms.renew_every / 4);
        let mut next_look = Instant::now() + tick;
        // Since when nothing more is wanted, and when the last delivery came.
        let mut unwanted: Option<(Instant, Instant)> = None;
        let mut was_cancelled = false;
        loop {
            self.heed_stop();
            let now = Instant::now();
            if now >= next_look {
                session.is_there()?;
                self.bench.renew(now);
                for news in self.bench.tell(now) {
                    on_their_way.push(Either::Left(async move { session.tell(&news).await.map(|()| None) }));
                }
                next_look = now + tick;
            }
            let wants_more = self.bench.wants_more();
            let mut wake = next_look;
            if consumer.is_some() && !wants_more {
                let (since, last) = *unwanted.get_or_insert((now, now));
                let due = (last + CALM).min(since + LATEST);
                wake = wake.min(due);
                if let Some(open) = consumer.take_if(|_| now >= due) {
                    self.close(session, open).await?;
                    was_cancelled = true;
                }
            }
            if consumer.is_none() && wants_more && !was_cancelled {
                consumer = Some(shift.within(session.consume(&shift.settings.queue)).await?);
                self.has_consumed = true;
                self.bench.set_open(true);
            }
            self.bench.tidy();
            let letters = self.bench.take_unsent();
            self.needs_held |= letters.iter().any(|(_, letter)| letter.to == To::Held);
            if self.needs_held && held.is_none() {
                held = Some(shift.open_held(session).await?);
            }
            for (number, letter) in letters {
                let copies = held.as_ref().map(|held| Arc::clone(&held.copies));
                on_their_way.push(Either::Right(async move {
                    let published = session.publish(&letter, shift, copies.as_deref()).await;
                    published.map(|()| Some(number))
                }));
            }
            for receipt in self.bench.take_due() {
                session.acknowledge(receipt, held.as_ref()).await?;
            }
            let mut begun = self.bench.begin(now).into_iter();
            while let Some(begin) = begun.next() {
                if begin.may_kill
                    && let Err(error) = shift.within(session.settle(shift.terms.width, held.as_ref())).await
                {
                    // It counts as running, and so do those behind it, and nobody has begun them.
                    for begin in std::iter::once(begin).chain(begun) {
                        self.bench.end(&begin.key, Finish::NotMade { counts: false }, now);
                    }
                    return Err(error);
                }
                self.start(begin);
            }
            if self.was_stopping && self.bench.is_clear() {
                if let Some(held) = held {
                    // What is in it is of calls that are over.
                    let _ = shift.within(held.delete(&shift.held)).await;
                }
                return Ok(Then::End);
            }
            if was_cancelled && self.bench.wants_more() && self.bench.is_clear() {
                return Ok(Then::AnotherOne);
            }
            tokio::select! {
                biased;
                Some(confirmed) = on_their_way.next() => {
                    confirmed?.into_iter().for_each(|number| self.bench.confirmed(number));
                }
                Some((key, outcome)) = self.calls.next() => self.end(&key, outcome),
                delivery = next(consumer.as_mut()) => {
                    self.take(From::Tasks, delivery)?;
                    if let Some((_, last)) = &mut unwanted {
                        *last = Instant::now();
                    }
                }
                delivery = next(held.as_mut().map(|held| &mut held.consumer)) => self.take(From::Held, delivery)?,
                () = sleep_until(wake.into()) => {}
                () = shift.stop.asked(), if !self.was_stopping => {}
            }
        }
    }

    /// Takes nothing more from the queue of calls.
    async fn close(&mut self, session: &Session, mut consumer: Consumer) -> Result<(), lapin::Error> {
        let shift = self.shift;
        let cancelling = session.tasks.basic_cancel(consumer.tag(), BasicCancelOptions::default());
        shift.within(cancelling).await?;
        // What was on its way when the broker heard of it.
        let mut rest = Vec::new();
        let all = async {
            while let Some(delivery) = consumer.next().await {
                rest.push(delivery?);
            }
            Ok(())
        };
        shift.within(all).await?;
        for delivery in rest {
            self.take(From::Tasks, Some(Ok(delivery)))?;
        }
        self.bench.set_open(false);
        Ok(())
    }

    fn take(
        &mut self,
        from: From,
        delivery: Option<Result<Delivery, lapin::Error>>,
    ) -> Result<(), lapin::Error> {
        // What `None` means stands in the table of `post.rs`.
        let gone = || io::Error::new(io::ErrorKind::NotFound, "the queue is gone");
        let Delivery { delivery_tag: tag, redelivered, properties, data: body, .. } =
            delivery.unwrap_or_else(|| Err(gone().into()))?;
        let arrival = Arrival {
            from,
            tag,
            redelivered,
            is_left: is_left(&properties, &self.shift.settings.queue),
            reply_to: properties.reply_to().clone(),
            id: properties.message_id().clone(),
            priority: properties.priority().unwrap_or(USUAL),
            body,
        };
        self.bench.take(arrival, Instant::now());
        Ok(())
    }

    /// Has a call made.
    fn start(&mut self, begin: Begin) {
        let Begin { key, function, argument, limit, .. } = begin;
        let (task, future) = Task::new(Forwarded { function, argument, attempt: key.attempt, limit });
        self.shift.pool.execute(task);
        let future: Future<Served> = future;
        self.calls.push(Box::pin(async move { (key, future.await) }));
    }
}

/// The beginning of the name of all queues for copies of calls of that queue.
pub(super) fn held_queues(queue: &str) -> String {
    format!("{queue}.held.")
}

/// Has a worker put it by, and not come back for it?
fn is_left(properties: &BasicProperties, queue: &str) -> bool {
    let headers = properties.headers().as_ref();
    match headers.and_then(|headers| headers.inner().get("x-first-death-queue")) {
        Some(AMQPValue::LongString(name)) => name.as_bytes().starts_with(held_queues(queue).as_bytes()),
        _ => false,
    }
}

/// The next delivery, if any are taken.
async fn next(consumer: Option<&mut Consumer>) -> Option<Result<Delivery, lapin::Error>> {
    match consumer {
        Some(consumer) => consumer.next().await,
        None => std::future::pending().await,
    }
}

/// What there is while the broker is there.
pub(super) struct Session {
    publishing: Connection,
    consuming: Connection,
    out: Channel,
    tasks: Channel,
}

impl Session {
    pub(super) async fn open(
        address: &Address,
        settings: &Settings,
        width: usize,
    ) -> Result<Session, NoSession> {
        let publishing = address.connect().await?;
        let consuming = address.connect().await?;
        let opening = async {
            let out = publishing.create_channel().await?;
            out.confirm_select(ConfirmSelectOptions::default()).await?;
            let (_, tasks) = declared_alike(&consuming, &settings.queue, &settings.declaration()).await?;
            tasks.basic_qos(prefetch(width), BasicQosOptions::default()).await?;
            Ok((out, tasks))
        };
        match timeout(address.limit, opening).await {
            Ok(Ok((out, tasks))) => Ok(Session { publishing, consuming, out, tasks }),
            Ok(Err(error)) if is_unfit(&error) => Err(NoSession::Unfit(address.refusal(&error).into_error())),
            Ok(Err(error)) => Err(address.refusal(&error).into()),
            Err(_) => Err(NoSession::Away(address.late())),
        }
    }

    fn is_there(&self) -> Result<(), lapin::Error> {
        are_open([&self.publishing, &self.consuming], [&self.out, &self.tasks])
    }

    async fn consume(&self, queue: &str) -> Result<Consumer, lapin::Error> {
        let options = BasicConsumeOptions::default();
        self.tasks.basic_consume(short(queue), short(""), options, FieldTable::default()).await
    }

    /// Until the broker has heard all that was said to it about deliveries.
    async fn settle(&self, width: usize, held: Option<&Held>) -> Result<(), lapin::Error> {
        // It answers in order; this changes nothing.
        self.tasks.basic_qos(prefetch(width), BasicQosOptions::default()).await?;
        match held {
            Some(held) => held.channel.basic_qos(0, BasicQosOptions::default()).await,
            None => Ok(()),
        }
    }

    async fn acknowledge(&self, receipt: Receipt, held: Option<&Held>) -> Result<(), lapin::Error> {
        let channel = match receipt.from {
            From::Tasks => Some(&self.tasks),
            From::Held => held.map(|held| &held.channel),
        };
        match channel {
            Some(channel) => channel.basic_ack(receipt.tag, BasicAckOptions::default()).await,
            None => Ok(()),
        }
    }

    /// Tells a client how things are. If the broker does not take it, or the client is gone, it is not told.
    async fn tell(&self, news: &News) -> Result<(), lapin::Error> {
        let properties =
            BasicProperties::default().with_correlation_id(news.key.id.clone()).with_expiration(short(NEWS));
        let (to, options) = (news.key.reply_to.clone(), BasicPublishOptions::default());
        self.out.basic_publish(short(""), to, options, &news.body, properties).await?.await.map(drop)
    }

    /// Publishes it until the broker has it.
    async fn publish(
        &self,
        letter: &Letter,
        shift: &Shift<'_>,
        copies: Option<&Mutex<Channel>>,
    ) -> Result<(), lapin::Error> {
        let id = letter.key.id.clone();
        let mut properties = BasicProperties::default()
            .with_message_id(id.clone())
            .with_correlation_id(id)
            .with_priority(letter.priority)
            .with_delivery_mode(if shift.settings.persistent { 2 } else { 1 });
        // An executor that is gone needs no reply, and one that finds its queue gone sends all again. But a copy for which
        // there is no queue stands for nothing, and which of several messages comes back is not known: one at a time.
        let (to, alone) = match letter.to {
            To::Client => (letter.key.reply_to.clone(), None),
            To::Tasks => (short(&shift.settings.queue), None),
            To::Held => (short(&shift.held), copies),
        };
        if letter.to != To::Client {
            properties = properties.with_reply_to(letter.key.reply_to.clone());
        }
        let options = BasicPublishOptions { mandatory: alone.is_some(), ..Default::default() };
        let channel = match alone {
            Some(alone) => Some(alone.lock().await),
            None => None,
        };
        let channel = channel.as_deref().unwrap_or(&self.out);
        loop {
            let published =
                channel.basic_publish(short(""), to.clone(), options, &letter.body, properties.clone());
            match published.await?.await? {
                Confirmation::Ack(Some(_)) => {
                    return Err(
                        io::Error::new(io::ErrorKind::NotFound, "the queue for copies is gone").into()
                    );
                }
                Confirmation::Nack(_) => sleep(FULL).await,
                Confirmation::Ack(None) | Confirmation::NotRequested => return Ok(()),
            }
        }
    }

    /// May this worker have a queue of its own, for calls that take long? Better known now than when the first one does.
    pub(super) async fn may_hold(
        &self,
        address: &Address,
        settings: &Settings,
        renew_every: Duration,
    ) -> Result<(), NoSession> {
        let name = format!("{}{}", held_queues(&settings.queue), unique());
        let trying = async { Held::open(self, &name, settings, renew_every).await?.delete(&name).await };
        match timeout(address.limit, trying).await {
            Ok(tried) => tried.map_err(|error| address.refusal(&error).into()),
            Err(_) => Err(NoSession::Away(address.late())),
        }
    }

    pub(super) async fn close(self, limit: Duration) {
        let Session { publishing, consuming, out: _out, tasks: _tasks } = self;
        let _ = timeout(limit, async {
            let _ = publishing.close(200, short("done")).await;
            let _ = consuming.close(200, short("done")).await;
        })
        .await;
    }
}

/// What runs, and one more each that waits for its turn here and not at the broker.
fn prefetch(width: usize) -> u16 {
    u16::try_from(width.saturating_mul(2)).unwrap_or(u16::MAX)
}

/// Is the queue one that we can never use?
fn is_unfit(error: &lapin::Error) -> bool {
    is_answer(error, 405) || is_answer(error, 406)
}

/// The queue for copies of calls that take long, in a session.
struct Held {
    /// To consume and to acknowledge.
    channel: Channel,
    consumer: Consumer,
    /// To publish to it, one at a time.
    copies: Arc<Mutex<Channel>>,
}

impl Held {
    async fn open(
        session: &Session,
        name: &str,
        settings: &Settings,
        renew_every: Duration,
    ) -> Result<Held, lapin::Error> {
        let copies = session.publishing.create_channel().await?;
        copies.confirm_select(ConfirmSelectOptions::default()).await?;
        let channel = session.consuming.create_channel().await?;
        let options = QueueDeclareOptions { durable: settings.persistent, ..Default::default() };
        channel.queue_declare(short(name), options, arguments(settings, renew_every)).await?;
        let consume = BasicConsumeOptions::default();
        let consumer = channel.basic_consume(short(name), short(""), consume, FieldTable::default()).await?;
        Ok(Held { channel, consumer, copies: Arc::new(Mutex::new(copies)) })
    }

    async fn delete(self, name: &str) -> Result<(), lapin::Error> {
        // Not after the queue is gone: RabbitMQ 3.10 closes the connection for that.
        self.channel.basic_cancel(self.consumer.tag(), BasicCancelOptions::default()).await?;
        self.channel.queue_delete(short(name), QueueDeleteOptions::default()).await.map(drop)
    }
}

/// How the queue for copies is made: what nobody takes for too long goes back to the queue of calls.
fn arguments(settings: &Settings, renew_every: Duration) -> FieldTable {
    let (least, most) = HELD;
    let text = |text: &str| AMQPValue::LongString(text.into());
    let millis = |time: Duration| AMQPValue::LongLongInt(i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
    let mut arguments = FieldTable::default();
    arguments.insert("x-message-ttl".into(), millis((renew_every / 10).clamp(least, most)));
    arguments.insert("x-expires".into(), millis(HELD_EXPIRES));
    arguments.insert("x-dead-letter-exchange".into(), text(""));
    arguments.insert("x-dead-letter-routing-key".into(), text(&settings.queue));
    if settings.quorum {
        arguments.insert("x-queue-type".into(), text("quorum"));
        // Without, what goes back is lost if the other queue cannot take it just then.
        arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
        arguments.insert("x-overflow".into(), text("reject-publish"));
    }
    arguments
}

/// How a call ended in our own pool. `Err`: the pool makes no calls any more.
fn finish(outcome: Result<Served, Error>) -> Result<Finish, Error> {
    let ended = match outcome {
        Ok(Ok(value)) => return Ok(Finish::Value(value)),
        Ok(Err(failure)) => Ended::Failed(failure),
        Err(
            error @ (Error::Broken { .. }
            | Error::Spawn { .. }
            | Error::ShutDown { .. }
            | Error::Cancelled { .. }),
        ) => {
            return Err(error);
        }
        Err(Error::Panicked { panic, .. }) => Ended::Failed(crate::portable::panicked(&panic)),
        Err(Error::Raised { error, .. }) => {
            let remote = error.downcast_ref::<RemoteError>();
            let sources = std::iter::successors(error.source(), |error| error.source());
            Ended::Failed(Failure::Raised(RemoteCause {
                type_name: remote.and_then(RemoteError::type_name).unwrap_or_default().into(),
                message: error.to_string(),
                sources: sources.take(RemoteCause::MAX_SOURCES).map(ToString::to_string).collect(),
            }))
        }
        Err(Error::Decode { what, reason, .. }) => {
            Ended::Failed(Failure::Undecodable { what: what.into(), reason })
        }
        Err(Error::Encode { what, reason, .. }) => {
            Ended::Failed(Failure::Unencodable { what: what.into(), reason })
        }
        // Who ends a service often asks all processes of it. That is not the fault of the call.
        Err(Error::WorkerDied { status, .. }) if status.is_some_and(message::was_asked_to_end) => {
            return Ok(Finish::NotMade { counts: true });
        }
        Err(Error::WorkerDied { pid, status, peak_memory, probable_cause, .. }) => {
            Ended::Died { pid, status: status.map(message::raw), peak_memory, probable_cause }
        }
        Err(Error::TimedOut { limit, .. }) => Ended::TimedOut { limit },
        Err(other) => Ended::Refused { reason: other.to_string() },
    };
    Ok(Finish::Without(ended))
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use lapin::types::LongString;

    use super::*;
    use crate::id::{FutureId, TaskRef};

    fn task() -> TaskRef {
        TaskRef { name: "a test", id: FutureId::next() }
    }

    fn died(signal: i32) -> Error {
        let status = Some(ExitStatus::from_raw(signal));
        Error::WorkerDied {
            task: task(),
            pid: 7,
            status,
            attempt: 1,
            peak_memory: None,
            probable_cause: None,
        }
    }

    #[test]
    fn what_ends_in_our_pool_is_told_or_given_back() {
        assert!(matches!(finish(Ok(Ok(vec![1]))), Ok(Finish::Value(value)) if value == [1]));
        // SIGKILL and SIGTERM.
        assert!(matches!(
            finish(Err(died(9))),
            Ok(Finish::Without(Ended::Died { pid: 7, status: Some(9), .. }))
        ));
        assert!(matches!(finish(Err(died(15))), Ok(Finish::NotMade { counts: true })));
        // The pool is broken, and not the call.
        for error in
            [Error::broken("no workers", None), Error::spawn("a worker", io::ErrorKind::OutOfMemory.into())]
        {
            assert!(finish(Err(error)).is_err());
        }
        let raised = Error::raised(task(), io::Error::other("no disk"));
        let Ok(Finish::Without(Ended::Failed(Failure::Raised(cause)))) = finish(Err(raised)) else {
            panic!()
        };
        assert_eq!(cause.message, "no disk");
        let late = Error::TimedOut { what: "it".into(), limit: Duration::from_secs(3) };
        assert!(matches!(
            finish(Err(late)),
            Ok(Finish::Without(Ended::TimedOut { limit })) if limit == Duration::from_secs(3)
        ));
    }

    #[test]
    fn only_a_copy_of_our_queues_is_one_that_was_left() {
        let from = |name: &str| {
            let mut headers = FieldTable::default();
            headers.insert("x-first-death-queue".into(), AMQPValue::LongString(LongString::from(name)));
            BasicProperties::default().with_headers(headers)
        };
        assert!(is_left(&from("calls.held.0123"), "calls"));
        assert!(!is_left(&from("calls"), "calls") && !is_left(&from("others.held.0123"), "calls"));
        assert!(!is_left(&BasicProperties::default(), "calls"));
    }

    #[test]
    fn who_is_told_to_stop_leaves_at_the_second_signal_only() {
        let stop = Stop::default();
        let level = || *stop.0.borrow();
        assert!(!stop.is_asked());
        stop.stop();
        stop.stop();
        assert_eq!((level(), stop.is_asked()), (Asked::Stop, true));
        stop.stop_or_leave();
        stop.stop();
        assert_eq!(level(), Asked::Leave);
        let other = Stop::default();
        other.stop_or_leave();
        assert_eq!(*other.0.borrow(), Asked::Stop);
    }
}
