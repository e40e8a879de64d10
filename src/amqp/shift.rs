//! The work of an AMQP worker: calls are taken from the queue, made, answered, and only then acknowledged.
//!
//! ```text
//!   queue ── delivery ──▶ waiting ── a thread or process is free ──▶ running ──▶ reply ── confirmed ──▶ acknowledged
//!     ▲                      │                                                     │
//!     └── given back: published again at its end, confirmed, acknowledged          └── kept, and sent in the next session,
//!                                                                                      if this one ends before
//! ```
//!
//! What is not acknowledged when the connection or the process ends goes to another worker. So a call may be made twice,
//! and is never lost.
//!
//! | a delivery                               | what is done with it                                                          |
//! |------------------------------------------|-------------------------------------------------------------------------------|
//! | of a call that runs here                 | it is the same one: the answer acknowledges this delivery                     |
//! | that another worker had before           | it goes back, as one that a worker has not come back from, once more          |
//! | that too many had                        | is answered, and not made                                                     |
//! | that some had: a suspect                 | is made when nothing else is: it may be what they died of                     |
//! | of an unknown function, or of other types | is answered                                                                  |
//! | any other                                | waits for its turn                                                            |
//!
//! Not here: the list of functions (`worker.rs`). The rule: a delivery is acknowledged when the broker answers for what
//! takes its place, its reply or its copy, and not before.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, Consumer};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::forwarded::{Forwarded, Served};
use super::link::{Address, Trouble};
use super::message::{self, Ended, ReplyHead, TaskHead};
use super::post::{LONGEST_PAUSE, PAUSE, Queues, declared, jittered, short};
use super::settings::Settings;
use super::worker::List;
use crate::error::{Error, RemoteError};
use crate::executor::Executor;
use crate::future::Future;
use crate::options::TaskOptions;
use crate::task::Task;
use crate::wire::message::{Failure, FunctionRef, RemoteCause};

/// What was not taken is offered again after that.
const FULL: Duration = Duration::from_millis(100);

/// Tells a worker to stop.
#[derive(Clone, Debug, Default)]
pub(super) struct Stop(Arc<(AtomicBool, Notify)>);

impl Stop {
    pub(super) fn stop(&self) {
        self.0.0.store(true, Ordering::SeqCst);
        self.0.1.notify_waiters();
    }

    fn is_asked(&self) -> bool {
        self.0.0.load(Ordering::SeqCst)
    }

    async fn asked(&self) {
        loop {
            let notified = self.0.1.notified();
            if self.is_asked() {
                return;
            }
            notified.await;
        }
    }
}

/// What a worker is, while it works.
pub(super) struct Shift {
    pub(super) address: Address,
    pub(super) settings: Settings,
    pub(super) list: List,
    pub(super) name: String,
    pub(super) width: usize,
    /// Can its calls have limits of time?
    pub(super) has_limits: bool,
    pub(super) delivery_limit: u32,
    pub(super) stop: Stop,
    pub(super) pool: Box<dyn Executor>,
}

/// Whose call it is, and its number there.
type Key = (ShortString, ShortString);

/// A delivery that is to be acknowledged, in its session.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Receipt {
    session: u64,
    tag: u64,
}

/// A call that was taken, and has not begun.
struct Taken {
    key: Key,
    receipt: Receipt,
    head: TaskHead,
    argument: Vec<u8>,
    function: FunctionRef,
    priority: u8,
}

/// What is published, and acknowledged by.
struct Outgoing {
    to: ShortString,
    id: ShortString,
    /// Where the answer to a copy of a call goes.
    reply_to: Option<ShortString>,
    priority: u8,
    body: Vec<u8>,
    receipt: Option<Receipt>,
}

/// How a session ended.
enum End {
    Done,
    Lost(Error),
}

impl Shift {
    /// Works until it is told to stop.
    pub(super) async fn work(self) -> Result<(), Error> {
        let mut pause = PAUSE;
        let mut bench = Bench::new(&self);
        let mut number = 0;
        loop {
            match Session::open(&self, number + 1).await {
                Ok(session) => {
                    number += 1;
                    pause = PAUSE;
                    match bench.serve(&session).await {
                        End::Done => {
                            session.close(self.address.limit).await;
                            return Ok(());
                        }
                        End::Lost(_) => bench.lose(),
                    }
                }
                Err(trouble) if number == 0 => return Err(trouble.into_error()),
                Err(_) if self.stop.is_asked() && bench.is_clear() => return Ok(()),
                Err(_) => {}
            }
            let _ = timeout(jittered(pause), self.stop.asked()).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// What there is while the broker is there.
struct Session {
    number: u64,
    publishing: Connection,
    consuming: Connection,
    out: Channel,
    tasks: Channel,
}

impl Session {
    async fn open(shift: &Shift, number: u64) -> Result<Session, Trouble> {
        let address = &shift.address;
        let publishing = address.connect().await?;
        let consuming = address.connect().await?;
        let queues = Queues {
            tasks: shift.settings.queue.clone(),
            replies: String::new(),
            persistent: shift.settings.persistent,
            quorum: shift.settings.quorum,
            priorities: shift.settings.priorities,
            expires: Duration::ZERO,
        };
        let opening = async {
            let out = publishing.create_channel().await?;
            out.confirm_select(ConfirmSelectOptions::default()).await?;
            let (_, tasks) = declared(&consuming, &queues.tasks, &queues.for_tasks()).await?;
            // What runs, and one more each that waits for its turn here and not at the broker.
            let most = u16::try_from(shift.width.saturating_mul(2)).unwrap_or(u16::MAX);
            tasks.basic_qos(most, BasicQosOptions::default()).await?;
            Ok((out, tasks))
        };
        match timeout(address.limit, opening).await {
            Ok(Ok((out, tasks))) => Ok(Session { number, publishing, consuming, out, tasks }),
            Ok(Err(error)) => Err(address.refusal(&error)),
            Err(_) => Err(Trouble::Away(address.error(format!("no answer within {:?}", address.limit)))),
        }
    }

    async fn consume(&self, shift: &Shift) -> Result<Consumer, lapin::Error> {
        let options = BasicConsumeOptions::default();
        self.tasks
            .basic_consume(short(&shift.settings.queue), short(""), options, FieldTable::default())
            .await
    }

    async fn acknowledge(&self, receipt: Option<Receipt>) -> Result<(), lapin::Error> {
        match receipt {
            // Those of sessions that are over were delivered again.
            Some(receipt) if receipt.session == self.number => {
                self.tasks.basic_ack(receipt.tag, BasicAckOptions::default()).await.map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Publishes it until the broker has it.
    async fn publish(&self, outgoing: &Outgoing, is_persistent: bool) -> Result<(), lapin::Error> {
        loop {
            let mut properties = BasicProperties::default()
                .with_message_id(outgoing.id.clone())
                .with_correlation_id(outgoing.id.clone())
                .with_priority(outgoing.priority)
                .with_delivery_mode(if is_persistent { 2 } else { 1 });
            if let Some(reply_to) = &outgoing.reply_to {
                properties = properties.with_reply_to(reply_to.clone());
            }
            // Not `mandatory`: an executor that is gone needs no reply, and one that finds its queue gone sends all again.
            let options = BasicPublishOptions::default();
            let confirm = self
                .out
                .basic_publish(short(""), outgoing.to.clone(), options, &outgoing.body, properties)
                .await?;
            match confirm.await? {
                Confirmation::Nack(_) => sleep(FULL).await,
                Confirmation::Ack(_) | Confirmation::NotRequested => return Ok(()),
            }
        }
    }

    async fn close(self, limit: Duration) {
        let Session { publishing, consuming, out: _out, tasks: _tasks, .. } = self;
        let _ = timeout(limit, async {
            let _ = publishing.close(200, short("done")).await;
            let _ = consuming.close(200, short("done")).await;
        })
        .await;
    }
}

/// What a worker has in hand, from one session to the next.
struct Bench<'s> {
    shift: &'s Shift,
    waiting: VecDeque<Taken>,
    /// To be made alone.
    suspect: Option<Taken>,
    /// A suspect is being made.
    is_alone: bool,
    /// Which calls run, since when, and what acknowledges them.
    running: HashMap<Key, (Instant, Receipt)>,
    /// Those calls, to be waited for.
    calls: FuturesUnordered<
        std::pin::Pin<Box<dyn std::future::Future<Output = (Key, Result<Served, Error>)> + Send>>,
    >,
    /// What is to be published, and what was and is not confirmed, by a number of its own.
    outgoing: BTreeMap<u64, Arc<Outgoing>>,
    /// Those of it that this session has not been given yet.
    unsent: Vec<u64>,
    next: u64,
    /// To be acknowledged, without anything in its place.
    void: Vec<Receipt>,
}

impl<'s> Bench<'s> {
    fn new(shift: &'s Shift) -> Self {
        Bench {
            shift,
            waiting: VecDeque::new(),
            suspect: None,
            is_alone: false,
            running: HashMap::new(),
            calls: FuturesUnordered::new(),
            outgoing: BTreeMap::new(),
            unsent: Vec::new(),
            next: 0,
            void: Vec::new(),
        }
    }

    fn is_clear(&self) -> bool {
        self.running.is_empty()
            && self.outgoing.is_empty()
            && self.waiting.is_empty()
            && self.suspect.is_none()
    }

    /// The session is over: what was taken and has not begun goes to others, and so do the copies.
    fn lose(&mut self) {
        self.waiting.clear();
        self.suspect = None;
        self.void.clear();
        self.outgoing.retain(|_, outgoing| outgoing.reply_to.is_none());
    }

    async fn serve(&mut self, session: &Session) -> End {
        match self.work(session).await {
            Ok(()) => End::Done,
            Err(error) => End::Lost(self.shift.address.error(format!("the connection was lost: {error}"))),
        }
    }

    async fn work(&mut self, session: &Session) -> Result<(), lapin::Error> {
        let is_persistent = self.shift.settings.persistent;
        let mut on_their_way = FuturesUnordered::new();
        let send = async |number: u64, outgoing: Arc<Outgoing>| {
            let published = session.publish(&outgoing, is_persistent).await;
            (number, published.map(|()| outgoing.receipt))
        };
        let mut consumer = None;
        // Replies of the sessions before are among them.
        self.unsent = self.outgoing.keys().copied().collect();
        loop {
            for number in std::mem::take(&mut self.unsent) {
                if let Some(outgoing) = self.outgoing.get(&number) {
                    on_their_way.push(send(number, Arc::clone(outgoing)));
                }
            }
            for receipt in std::mem::take(&mut self.void) {
                session.acknowledge(Some(receipt)).await?;
            }
            self.begin_what_can();
            let wants_more = !self.shift.stop.is_asked() && self.suspect.is_none() && !self.is_alone;
            match (&mut consumer, wants_more) {
                (None, true) => consumer = Some(session.consume(self.shift).await?),
                (Some(_), false) => {
                    if let Some(consumer) = consumer.take() {
                        self.pause(session, consumer).await?;
                    }
                    continue;
                }
                _ => {}
            }
            if self.shift.stop.is_asked() && self.is_clear() && on_their_way.is_empty() {
                return Ok(());
            }
            tokio::select! {
                biased;
                Some((number, published)) = on_their_way.next() => {
                    let receipt = published?;
                    self.outgoing.remove(&number);
                    session.acknowledge(receipt).await?;
                }
                Some((key, outcome)) = self.calls.next() => self.end(key, outcome),
                Some(delivery) = next(&mut consumer) => match delivery {
                    Some(delivery) => self.take(session, delivery?),
                    None => return Err(std::io::Error::new(std::io::ErrorKind::NotFound, "the queue is gone").into()),
                },
                () = self.shift.stop.asked(), if wants_more => {}
            }
        }
    }

    /// Takes nothing more, and gives back what has not begun.
    async fn pause(&mut self, session: &Session, mut consumer: Consumer) -> Result<(), lapin::Error> {
        session.tasks.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await?;
        while let Some(delivery) = consumer.next().await {
            self.take(session, delivery?);
        }
        for taken in std::mem::take(&mut self.waiting) {
            self.give_back(taken);
        }
        Ok(())
    }

    fn put(&mut self, outgoing: Outgoing) {
        self.next += 1;
        self.outgoing.insert(self.next, Arc::new(outgoing));
        self.unsent.push(self.next);
    }

    /// To the end of the queue, as it is.
    fn give_back(&mut self, taken: Taken) {
        let Taken { key: (reply_to, id), receipt, head, argument: mut body, priority, .. } = taken;
        message::finish(&mut body, &head);
        let to = short(&self.shift.settings.queue);
        self.put(Outgoing { to, id, reply_to: Some(reply_to), priority, body, receipt: Some(receipt) });
    }

    fn answer(&mut self, key: Key, receipt: Option<Receipt>, took: Duration, ended: Ended, value: Vec<u8>) {
        let (to, id) = key;
        let head = |ended| ReplyHead {
            worker: self.shift.name.clone(),
            pid: std::process::id(),
            width: u32::try_from(self.shift.width).unwrap_or(u32::MAX),
            took,
            ended,
        };
        let mut body = value;
        message::finish(&mut body, &head(ended));
        if let Some(reason) = self.shift.settings.too_long(body.len()) {
            let failure = Failure::Unencodable { what: "return value".into(), reason };
            body.clear();
            message::finish(&mut body, &head(Ended::Failed(failure)));
        }
        self.put(Outgoing { to, id, reply_to: None, priority: 5, body, receipt });
    }

    fn take(&mut self, session: &Session, delivery: Delivery) {
        let Delivery { delivery_tag: tag, redelivered, properties, data: mut body, .. } = delivery;
        let receipt = Receipt { session: session.number, tag };
        let address = (properties.reply_to().clone(), properties.message_id().clone());
        let (Some(reply_to), Some(id)) = address else {
            // It is no call of ours, and nobody waits for an answer.
            return self.void.push(receipt);
        };
        let key = (reply_to, id);
        if let Some((_, its)) = self.running.get_mut(&key) {
            *its = receipt;
            return;
        }
        let mut head = match message::open::<TaskHead>(&mut body) {
            Ok(head) => head,
            Err(error) => {
                let refused = Ended::Refused { reason: error.to_string() };
                return self.answer(key, Some(receipt), Duration::ZERO, refused, Vec::new());
            }
        };
        let function = match self.shift.list.find(&head) {
            Ok(function) => function,
            Err(ended) => return self.answer(key, Some(receipt), Duration::ZERO, ended, Vec::new()),
        };
        let priority = (*properties.priority()).unwrap_or(5);
        head.deaths += u32::from(redelivered);
        if head.deaths >= self.shift.delivery_limit {
            let poisonous = Ended::Poisonous { deaths: head.deaths };
            return self.answer(key, Some(receipt), Duration::ZERO, poisonous, Vec::new());
        }
        if head.limit.is_some() && !self.shift.has_limits {
            let reason = "it makes its calls in threads, which cannot be stopped: give it `processes`".into();
            return self.answer(key, Some(receipt), Duration::ZERO, Ended::Refused { reason }, Vec::new());
        }
        let is_suspect = head.deaths > 0 && !redelivered;
        let taken = Taken { key, receipt, head, argument: body, function, priority };
        if redelivered || (is_suspect && self.suspect.is_some()) {
            self.give_back(taken);
        } else if is_suspect {
            self.suspect = Some(taken);
        } else {
            self.waiting.push_back(taken);
        }
    }

    fn begin_what_can(&mut self) {
        self.is_alone &= !self.running.is_empty();
        if self.suspect.is_some() {
            if self.running.is_empty() && self.waiting.is_empty() {
                self.is_alone = true;
                if let Some(suspect) = self.suspect.take() {
                    self.begin(suspect);
                }
            }
            return;
        }
        while !self.is_alone && self.running.len() < self.shift.width {
            let Some(taken) = self.waiting.pop_front() else { return };
            self.begin(taken);
        }
    }

    fn begin(&mut self, taken: Taken) {
        let Taken { key, receipt, head, argument, function, .. } = taken;
        let options = head.limit.map(|limit| TaskOptions::new().timeout(limit));
        let (task, future) = Task::new(Forwarded { function, argument, options });
        self.running.insert(key.clone(), (Instant::now(), receipt));
        self.shift.pool.execute(task);
        let future: Future<Served> = future;
        self.calls.push(Box::pin(async move { (key, future.await) }));
    }

    fn end(&mut self, key: Key, outcome: Result<Served, Error>) {
        let Some((begun, receipt)) = self.running.remove(&key) else { return };
        let (ended, value) = match outcome {
            Ok(Ok(value)) => (Ended::Value, value),
            Ok(Err(failure)) => (Ended::Failed(failure), Vec::new()),
            Err(error) => (told(error), Vec::new()),
        };
        self.answer(key, Some(receipt), begun.elapsed(), ended, value);
    }
}

/// The next delivery, if any are taken; what `None` means stands in the table of `post.rs`.
async fn next(consumer: &mut Option<Consumer>) -> Option<Option<Result<Delivery, lapin::Error>>> {
    match consumer {
        Some(consumer) => Some(consumer.next().await),
        None => std::future::pending().await,
    }
}

/// What an error of our own pool is to the other side.
fn told(error: Error) -> Ended {
    match error {
        Error::Panicked { panic, .. } => Ended::Failed(crate::portable::panicked(&panic)),
        Error::Raised { error, .. } => {
            let remote = error.downcast_ref::<RemoteError>();
            let sources = std::iter::successors(error.source(), |error| error.source());
            Ended::Failed(Failure::Raised(RemoteCause {
                type_name: remote.and_then(RemoteError::type_name).unwrap_or_default().into(),
                message: error.to_string(),
                sources: sources.take(RemoteCause::MAX_SOURCES).map(ToString::to_string).collect(),
            }))
        }
        Error::Decode { what, reason, .. } => {
            Ended::Failed(Failure::Undecodable { what: what.into(), reason })
        }
        Error::Encode { what, reason, .. } => {
            Ended::Failed(Failure::Unencodable { what: what.into(), reason })
        }
        Error::WorkerDied { pid, status, peak_memory, probable_cause, .. } => {
            Ended::Died { pid, status: status.map(message::raw), peak_memory, probable_cause }
        }
        Error::TimedOut { limit, .. } => Ended::TimedOut { limit },
        other => Ended::Refused { reason: other.to_string() },
    }
}
