//! The worker's side of what its calls ask of queues, events, semaphores and locks of the host (`sync`): questions out,
//! answers in, over a socket of its own.
//!
//! Several threads of a call may ask at the same time, and an answer may come late. Whoever waits for one and finds nobody
//! at the socket reads, for all: what is for another is laid down for that.
//!
//! Not here: who answers (`desk.rs`). The rule: a question that was sent is answered, or the host is gone, and this process
//! with it.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Sink, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};

use super::pipes::ready;
use crate::primitives::statics::AtomicU64;
use crate::primitives::{Condvar, Mutex, Ordering, look};
use crate::sync::{Ask, Desk, Told};
use crate::wire::connection::Connection;
use crate::wire::frame::{Kind, WireError};
use crate::wire::message;

type Reader = Connection<BufReader<UnixStream>, Sink>;

pub(super) struct Errands {
    /// For one who writes a question as a whole.
    writer: Mutex<UnixStream>,
    answers: Mutex<Answers>,
    /// There are new answers, or nobody reads.
    news: Condvar,
    next: AtomicU64,
}

struct Answers {
    /// Absent while somebody reads.
    reader: Option<Reader>,
    /// Those that nobody has taken so far.
    come: BTreeMap<u64, (Told, Vec<u8>)>,
}

impl Errands {
    pub(super) fn new(socket: UnixStream, limit: u64) -> io::Result<Self> {
        let reader = Connection::new(BufReader::new(socket.try_clone()?), io::sink(), limit);
        Ok(Errands {
            writer: Mutex::new(socket),
            answers: Mutex::new(Answers { reader: Some(reader), come: BTreeMap::new() }),
            news: Condvar::new(),
            next: AtomicU64::new(1),
        })
    }

    fn send(&self, number: u64, ask: &Ask, item: &[u8]) {
        let frame = message::encode_with_rest(Kind::Ask, number, ask, item.len());
        let mut writer = self.writer.lock();
        if writer.write_all(&frame).and_then(|()| writer.write_all(item)).is_err() {
            end();
        }
    }

    fn wait(&self, number: u64) -> (Told, Vec<u8>) {
        let mut answers = self.answers.lock();
        loop {
            if let Some(answer) = answers.come.remove(&number) {
                return answer;
            }
            let Some(mut reader) = answers.reader.take() else {
                self.news.wait(&mut answers);
                continue;
            };
            drop(answers);
            if reader.reader().buffer().is_empty() {
                // What need not wait is answered in moments.
                look::give_way(|| is_readable(reader.reader().get_ref()));
            }
            let received = receive(&mut reader);
            answers = self.answers.lock();
            answers.reader = Some(reader);
            match received {
                Ok((number, answer)) => answers.come.insert(number, answer),
                Err(_) => end(),
            };
            self.news.notify_all();
        }
    }
}

fn is_readable(socket: &UnixStream) -> bool {
    ready(&mut [PollFd::new(socket, PollFlags::IN)], Some(Instant::now())).unwrap_or(true)
}

fn receive(reader: &mut Reader) -> Result<(u64, (Told, Vec<u8>)), WireError> {
    match reader.receive()? {
        Some((Kind::Answer, number)) => {
            let (told, item) = message::decode_with_rest(Kind::Answer, reader.payload())?;
            let answer = (told, item.to_vec());
            reader.clear();
            Ok((number, answer))
        }
        Some((kind, _)) => Err(WireError::Unexpected { kind, wanted: "an answer" }),
        None => Err(WireError::Closed),
    }
}

/// The host is gone, or does not want to hear from this worker any more.
fn end() -> ! {
    std::process::exit(1)
}

impl Desk for Errands {
    fn ask(&self, ask: &Ask, item: &[u8]) -> (Told, Vec<u8>) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.send(number, ask, item);
        self.wait(number)
    }

    fn tell(&self, ask: &Ask) {
        self.send(0, ask, &[]);
    }
}
