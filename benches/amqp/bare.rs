//! One message a task, by hand on lapin, the way Celery does it: a floor that ours is held against.
//!
//! | setting                 | queue of tasks | confirms of tasks            | the worker acknowledges | replies                   |
//! |-------------------------|----------------|------------------------------|-------------------------|---------------------------|
//! | [`Setting::DEFAULT`]    | classic        | none                         | before it works         | transient, not confirmed  |
//! | [`Setting::CONFIRMED`]  | classic        | each waits for its own       | after its reply is sent | transient, not confirmed  |
//! | [`Setting::QUORUM`]     | quorum         | each waits for its own       | after its reply is sent | transient, not confirmed  |
//!
//! The first is what Celery does where nothing is set: messages persistent, `acks_late` off, results by `rpc://`. The others
//! are what its users set who do not want to lose tasks: `confirm_publish`, which waits for the broker after every
//! message, and `acks_late`. All take four messages in advance for each that they make at a time, as Celery does. There
//! is no Python in it, no header, no task's name: what is measured is the broker and the way.
//!
//! Not here: Celery itself (`celery_tasks.py`). The rule: nothing cleverer than Celery is; no windows, no batches.

use std::net::ToSocketAddrs;
use std::time::Duration;

use async_rs::traits::Reactor;
use async_rs::{Runtime, Tokio};
use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::tcp::AsyncTcpStream;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::uri::AMQPUri;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use tokio::runtime::{Builder, Handle};
use tokio::time::timeout;

/// No answer of the broker takes so long.
const LIMIT: Duration = Duration::from_secs(60);

/// So many are taken in advance for each that is made at a time.
const MULTIPLIER: u16 = 4;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    quorum: bool,
    confirmed: bool,
}

impl Setting {
    pub(crate) const DEFAULT: Setting =
        Setting { name: "handmade-celery-default", quorum: false, confirmed: false };
    pub(crate) const CONFIRMED: Setting =
        Setting { name: "handmade-celery-confirmed", quorum: false, confirmed: true };
    pub(crate) const QUORUM: Setting =
        Setting { name: "handmade-celery-confirmed-quorum", quorum: true, confirmed: true };
    pub(crate) const ALL: [Setting; 3] = [Setting::DEFAULT, Setting::CONFIRMED, Setting::QUORUM];
}

/// What a task is to give back: so many bytes.
pub(crate) fn task(value: u32, argument: usize) -> Vec<u8> {
    let mut body = value.to_le_bytes().to_vec();
    body.resize(4 + argument, 7);
    body
}

fn made(task: &[u8]) -> Vec<u8> {
    let value = task.first_chunk().map_or(0, |value| u32::from_le_bytes(*value));
    vec![7; value as usize]
}

fn short(name: &str) -> ShortString {
    ShortString::from(name)
}

/// Without Nagle's algorithm, as ours: with it, a confirm takes 43 ms at times.
async fn connect(url: &str) -> Connection {
    let uri: AMQPUri = url.parse().expect("the URL of the broker");
    let handle = Handle::current();
    let open = async move |uri: AMQPUri, runtime: Runtime<Tokio>| {
        let name = (uri.authority.host.as_str(), uri.authority.port);
        let address = name.to_socket_addrs()?.next().expect("an address");
        let stream = runtime.tcp_connect_addr(address).await?;
        stream.get_ref().set_nodelay(true)?;
        Ok(AsyncTcpStream::Plain(stream))
    };
    let runtime = Runtime::new(Tokio::default().with_handle(handle));
    let connecting = Connection::connector(uri, runtime, open, ConnectionProperties::default());
    timeout(LIMIT, connecting).await.expect("the broker answers").expect("a connection")
}

async fn declare(channel: &Channel, name: &str, quorum: bool) {
    let mut arguments = FieldTable::default();
    if quorum {
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    }
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(short(name), options, arguments).await.expect("a queue");
}

/// Makes tasks until its process is killed.
pub(crate) fn work(url: &str, queue: &str, quorum: bool, late: bool, width: u16) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let connection = connect(url).await;
        let channel = connection.create_channel().await.expect("a channel");
        declare(&channel, queue, quorum).await;
        channel.basic_qos(width * MULTIPLIER, BasicQosOptions::default()).await.expect("a prefetch");
        let consume = BasicConsumeOptions::default();
        let mut tasks = channel
            .basic_consume(short(queue), short(""), consume, FieldTable::default())
            .await
            .expect("tasks");
        while let Some(Ok(delivery)) = tasks.next().await {
            let acknowledge = || channel.basic_ack(delivery.delivery_tag, BasicAckOptions::default());
            if !late {
                acknowledge().await.expect("an acknowledgement");
            }
            let value = made(&delivery.data);
            let (to, id) = (delivery.properties.reply_to(), delivery.properties.correlation_id());
            let properties = BasicProperties::default()
                .with_correlation_id(id.clone().unwrap_or_default())
                .with_delivery_mode(1);
            let to = to.clone().unwrap_or_default();
            let options = BasicPublishOptions::default();
            channel.basic_publish(short(""), to, options, &value, properties).await.expect("a reply is sent");
            if late {
                acknowledge().await.expect("an acknowledgement");
            }
        }
    });
}

/// Who submits.
pub(crate) struct Client {
    runtime: tokio::runtime::Runtime,
    setting: Setting,
    out: Channel,
    queue: String,
    reply_to: ShortString,
    replies: Consumer,
    _connection: Connection,
    _back: Channel,
}

impl Client {
    pub(crate) fn new(url: &str, queue: &str, setting: Setting) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (connection, out, back, reply_to, replies) = runtime.block_on(async {
            let connection = connect(url).await;
            let out = connection.create_channel().await.expect("a channel");
            if setting.confirmed {
                out.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
            }
            declare(&out, queue, setting.quorum).await;
            let back = connection.create_channel().await.expect("a channel");
            let reply_to = short(&format!("{queue}.replies"));
            let own = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
            back.queue_declare(reply_to.clone(), own, FieldTable::default()).await.expect("a queue");
            let consume = BasicConsumeOptions { no_ack: true, ..Default::default() };
            let replies = back
                .basic_consume(reply_to.clone(), short(""), consume, FieldTable::default())
                .await
                .expect("replies");
            (connection, out, back, reply_to, replies)
        });
        let queue = queue.to_owned();
        Client { runtime, setting, out, queue, reply_to, replies, _connection: connection, _back: back }
    }

    async fn publish(&self, number: u64, body: &[u8]) {
        let number = short(&number.to_string());
        let properties = BasicProperties::default()
            .with_message_id(number.clone())
            .with_correlation_id(number)
            .with_reply_to(self.reply_to.clone())
            .with_delivery_mode(2);
        let options = BasicPublishOptions::default();
        let published =
            self.out.basic_publish(short(""), short(&self.queue), options, body, properties).await;
        let confirm = published.expect("a task is sent");
        if self.setting.confirmed {
            assert!(confirm.await.expect("a confirm").is_ack());
        }
    }

    async fn reply(replies: &mut Consumer) -> usize {
        let delivery = timeout(LIMIT, replies.next()).await.expect("a reply in time");
        delivery.expect("the queue of replies is there").expect("a reply").data.len()
    }

    /// So many tasks, one after the other.
    pub(crate) fn there_and_back(&self, tasks: u64, body: &[u8]) {
        self.runtime.block_on(async {
            let mut replies = self.replies.clone();
            for number in 0..tasks {
                self.publish(number, body).await;
                Self::reply(&mut replies).await;
            }
        });
    }

    /// So many tasks, all sent before the last reply is waited for; gives the bytes of all replies.
    pub(crate) fn queued(&self, tasks: u64, body: &[u8]) -> usize {
        self.runtime.block_on(async {
            let mut replies = self.replies.clone();
            let send = async {
                for number in 0..tasks {
                    self.publish(number, body).await;
                }
            };
            let collect = async {
                let mut bytes = 0;
                for _ in 0..tasks {
                    bytes += Self::reply(&mut replies).await;
                }
                bytes
            };
            tokio::join!(send, collect).1
        })
    }
}

/// Deletes the queues of a bench.
pub(crate) fn delete(url: &str, queues: &[String]) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let connection = connect(url).await;
        let channel = connection.create_channel().await.expect("a channel");
        for queue in queues {
            let _ = channel.queue_delete(short(queue), Default::default()).await;
        }
        let _ = connection.close(200, short("done")).await;
    });
}
