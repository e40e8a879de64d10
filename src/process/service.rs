//! The worker's side of the conversation: it takes calls, runs them one after the other, and answers, until the host
//! says Bye or is gone.
//!
//! A call comes through the page (`lanes.rs`) or, if it is long, through the pipe; a reply goes the same way. A call is
//! claimed before it is run, because the host may have taken it back. The worker looks at the page for a moment when
//! it has nothing to do, then sleeps in a read of its pipe.
//!
//! A reply is in the page as soon as its call has ended, so nothing is lost of it whatever the next call does. What
//! waits for a while is the bell: a host that sleeps is rung for when it wanted to be, or when there is no other call,
//! or when it has slept long enough.
//!
//! Not here: how a worker begins (`entry.rs`).

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::errands::Errands;
use super::lanes::{LONGEST, Lanes, Next, Reader, SOON, Writer};
use super::post::{self, Post, descriptors};
use super::{host, terms};
use crate::enclosed::{Enclosure, length_of};
use crate::portable::Beside;
use crate::primitives::look;
use crate::wire::connection::Connection;
use crate::wire::frame::{self, BELL, HEADER, Kind, Parcel, Source, WireError};
use crate::wire::message::{Failure, decode_call};
use crate::{outcome, portable, sync};

pub(super) struct Service<R, W> {
    connection: Connection<R, W>,
    /// Absent where there can be none.
    page: Option<WorkersEnd>,
    post: Post,
    reply: Parcel,
}

/// What the worker has of a page.
struct WorkersEnd {
    lanes: Arc<Lanes>,
    calls: Reader,
    replies: Writer,
    /// What the call in hand brought, if it came through the page.
    payload: Vec<u8>,
    /// Calls received.
    received: u64,
    /// Messages written.
    written: u64,
    /// Since when the call in hand runs: the end of the one before, unless we had to wait for it.
    since: Instant,
    /// Since when there is a reply that a sleeping host does not know of.
    unheard: Option<Instant>,
}

/// Where the payload of what was received is.
#[derive(Clone, Copy, PartialEq)]
enum From {
    Pipe,
    Page,
}

/// Of a buffer that has grown beyond this, the rest is given back.
const KEPT: usize = 1 << 20;

/// How long a host that sleeps may not hear of a reply while others are made.
const PATIENCE: Duration = Duration::from_micros(100);

impl<R: Source, W: Write> Service<R, W> {
    pub(super) fn new(connection: Connection<R, W>, lanes: Option<Arc<Lanes>>, post: Post) -> Self {
        let page = lanes.map(|lanes| WorkersEnd {
            lanes,
            calls: Reader::default(),
            replies: Writer::default(),
            payload: Vec::new(),
            received: 0,
            written: 0,
            since: Instant::now(),
            unheard: None,
        });
        Service { connection, page, post, reply: Parcel::default() }
    }

    /// Answers calls until the host says Bye or closes the pipe.
    pub(super) fn serve(&mut self) -> Result<(), WireError> {
        loop {
            let Some((kind, id, from)) = self.receive()? else { return Ok(()) };
            let (kind, encloses) = kind.opened();
            let mut beside = Beside::default();
            if encloses {
                // Also that of a call that was taken back.
                beside.received = self.post.take(id, self.connection.limit()).sent_by_host();
                if let Some(socket) = self.post.take_desk() {
                    sync::ask_at(Errands::new(socket.into(), self.connection.limit())?);
                }
            }
            match kind {
                Kind::Call => {
                    if self.page.as_mut().is_none_or(WorkersEnd::begin) {
                        let answered = self.answer(id, from, beside)?;
                        self.reply(id, answered)?;
                    }
                }
                Kind::Initialise => {
                    let answered = self.answer(id, from, beside)?;
                    self.reply_in_pipe(id, answered)?;
                }
                Kind::Bye => return Ok(()),
                kind => return Err(WireError::Unexpected { kind, wanted: "a call" }),
            }
        }
    }

    /// Waits for what comes next.
    fn receive(&mut self) -> Result<Option<(Kind, u64, From)>, WireError> {
        let mut had_to_wait = false;
        loop {
            let Some(page) = &mut self.page else {
                let received = self.connection.receive()?;
                return Ok(received.map(|(kind, id)| (kind, id, From::Pipe)));
            };
            match page.calls.next(page.lanes.calls(), &mut page.payload) {
                Next::Frame { .. } => {
                    if had_to_wait {
                        page.since = Instant::now();
                    }
                    let (kind, id) = frame::parse(&page.payload)?;
                    page.payload.drain(..HEADER);
                    return Ok(Some((kind, id, From::Page)));
                }
                Next::InPipe { .. } => loop {
                    match self.connection.receive()? {
                        Some((Kind::Bell, _)) => {}
                        received => {
                            page.since = Instant::now();
                            return Ok(received.map(|(kind, id)| (kind, id, From::Pipe)));
                        }
                    }
                },
                Next::Nothing => {}
                Next::Nonsense => return Err(WireError::NotOurs),
            }
            had_to_wait = true;
            let is_there = || !page.calls.is_empty(page.lanes.calls());
            if look::watch(is_there) {
                continue;
            }
            // Those who come next may have been taken back, or nobody has taken the reply so far.
            if page.lanes.replies().wanted().is_some_and(|_| page.unheard.take().is_some())
                && page.lanes.replies().rouse()
            {
                self.connection.send(&BELL)?;
            }
            if look::give_way(is_there) || !page.calls.sleep(page.lanes.calls(), 1) {
                continue;
            }
            let received = self.connection.receive()?;
            page.lanes.calls().wake();
            match received {
                Some((Kind::Bell, _)) => {}
                // It was announced, and has come before we looked.
                Some((kind @ (Kind::Call | Kind::CallWith), id)) => {
                    match page.calls.next(page.lanes.calls(), &mut page.payload) {
                        Next::InPipe { .. } => {
                            page.since = Instant::now();
                            return Ok(Some((kind, id, From::Pipe)));
                        }
                        _ => {
                            return Err(WireError::Unexpected { kind, wanted: "a call that was announced" });
                        }
                    }
                }
                received => return Ok(received.map(|(kind, id)| (kind, id, From::Pipe))),
            }
        }
    }

    /// Makes the call in hand, and the frame of its reply; sends what goes beside that. True: with a value.
    fn answer(&mut self, id: u64, from: From, mut beside: Beside) -> Result<bool, WireError> {
        let payload = match (&mut self.page, from) {
            (Some(page), From::Page) => &mut page.payload,
            _ => self.connection.payload_mut(),
        };
        host::begin(id);
        let mut answered = answer(payload, id, &mut self.reply, &mut beside);
        sync::end_call();
        if from == From::Pipe {
            self.connection.clear();
        }
        // What the task printed is on the terminal before its result is known.
        let _ = io::stdout().flush();
        if answered && !beside.enclosed.is_empty() {
            answered = self.enclose(id, &beside.enclosed)?;
        }
        Ok(answered)
    }

    /// Sends what goes beside the reply. False: it does not go, and the reply says so.
    fn enclose(&mut self, id: u64, enclosed: &[Enclosure]) -> Result<bool, WireError> {
        let limit = self.connection.limit();
        let length = ((self.reply.len() - HEADER) as u64).saturating_add(length_of(enclosed));
        let reason = if length > limit {
            terms::too_long("it has", length, limit)
        } else {
            let (kind, all) = (post::Kind::Memory, descriptors(enclosed));
            let mut sent = self.post.send_now(kind, id, &all);
            if sent.is_err() {
                // There is room when the host has taken what was sent before, and it may sleep.
                self.ring()?;
                sent = self.post.send(kind, id, &all, None, None);
            }
            match sent {
                Ok(()) => {
                    self.reply.enclose();
                    return Ok(true);
                }
                Err(error) => format!("its memory could not be handed over: {error}"),
            }
        };
        self.reply = Failure::Unencodable { what: "return value".into(), reason }.parcel(Kind::Failed, id);
        Ok(false)
    }

    /// Wakes the host, if there is something that it does not know of.
    fn ring(&mut self) -> Result<(), WireError> {
        if let Some(page) = &mut self.page
            && page.lanes.replies().wanted().is_some()
            && page.lanes.replies().rouse()
        {
            page.unheard = None;
            self.connection.send(&BELL)?;
        }
        Ok(())
    }

    /// Sends the reply that was made.
    fn reply(&mut self, id: u64, answered: bool) -> Result<(), WireError> {
        let Some(page) = &mut self.page else { return self.reply_in_pipe(id, answered) };
        let now = Instant::now();
        let took = u32::try_from(now.duration_since(page.since).as_nanos()).unwrap_or(u32::MAX);
        let is_short =
            self.reply.len() <= LONGEST && (self.reply.len() - HEADER) as u64 <= self.connection.limit();
        page.since = now;
        page.written += 1;
        if is_short && page.replies.push(page.lanes.replies(), &self.reply.bytes, took) {
            if page.is_to_ring(now) {
                self.connection.send(&BELL)?;
            }
            return Ok(());
        }
        page.replies.announce(page.lanes.replies(), took);
        // Whatever comes through the pipe wakes the host.
        page.unheard = None;
        self.reply_in_pipe(id, answered)
    }

    /// Sends it through the pipe, or says that it is too long.
    fn reply_in_pipe(&mut self, id: u64, answered: bool) -> Result<(), WireError> {
        if let Err(WireError::TooLong { length, limit }) = self.connection.post(&self.reply) {
            let what = if answered { "it has" } else { "there is none, and the report of it has" };
            let reason = terms::too_long(what, length, limit);
            let failure = Failure::Unencodable { what: "return value".into(), reason };
            self.connection.send(&failure.encode(Kind::Failed, id))?;
        }
        self.reply.clear(KEPT);
        Ok(())
    }
}

impl WorkersEnd {
    /// Claims the call in hand. False: it was taken back.
    fn begin(&mut self) -> bool {
        let number = self.received;
        self.received += 1;
        self.lanes.claims().begin(number)
    }

    /// After a reply: is the host to be rung for? Then it is for us to do so.
    fn is_to_ring(&mut self, now: Instant) -> bool {
        let Some(number) = self.lanes.replies().wanted() else {
            self.unheard = None;
            return false;
        };
        let since = *self.unheard.get_or_insert(now);
        let is_due = number != SOON && (self.written >= number || self.calls.is_empty(self.lanes.calls()))
            || now.duration_since(since) >= PATIENCE;
        if is_due {
            self.unheard = None;
        }
        is_due && self.lanes.replies().rouse()
    }
}

/// Makes the call that `payload` describes, and the frame of its reply. True: with a value.
fn answer(payload: &mut Vec<u8>, id: u64, reply: &mut Parcel, beside: &mut Beside) -> bool {
    reply.begin_again(Kind::Returned, id);
    let call = decode_call(payload).map(|(function, attempt, argument)| (function, attempt, argument.len()));
    let served = match call {
        Ok((function, attempt, length)) => match portable::resolve(function) {
            Ok(descriptor) => {
                outcome::set_hosts_attempt(attempt);
                payload.truncate(length);
                (descriptor.serve)(payload, reply, beside)
            }
            Err(reason) => Err(Failure::UnknownFunction { reason }),
        },
        Err(error) => Err(Failure::Undecodable { what: "argument".into(), reason: error.to_string() }),
    };
    let answered = served.is_ok();
    match served {
        Ok(()) => reply.end(),
        Err(failure) => *reply = failure.parcel(Kind::Failed, id),
    }
    answered
}
