//! The host's side of the conversation with a child: calls go out, replies come in.
//!
//! What is short goes through the page (`lanes.rs`), what is long through the pipes, and what there is to hear is
//! heard in the order in which it was said: a frame in the pipe is announced in the page. The thread looks at the page
//! for a moment, then sleeps until it is rung for, with a frame in the pipe. Where there is no page, all goes through
//! the pipes.
//!
//! Not here: how many calls are in flight, and what becomes of them (`context.rs`, `window.rs`). The rule: whatever
//! the child says or does, this returns when it is dead, or when the time is over.

use std::io::{self, BufRead};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::call::Letter;
use super::child::Child;
use super::desk::Desk;
use super::lanes::{Lanes, Next, Reader, SOON, Writer};
use super::post::{self, Post, descriptors};
use super::remarks::Progress;
use crate::enclosed::{Enclosure, Received};
use crate::future::deadline_after;
use crate::outcome::discard;
use crate::primitives::look;
use crate::sync::objects_in;
use crate::task::Reply;
use crate::wire::frame::{self, BELL, HEADER, Kind, Parcel, WireError};
use crate::wire::message::Failure;

/// What the host has of a page.
pub(super) struct HostsEnd {
    pub(super) lanes: Arc<Lanes>,
    pub(super) calls: Writer,
    replies: Reader,
    /// What the frame heard last brought, if it came through the page.
    payload: Option<Vec<u8>>,
    spare: Vec<u8>,
    /// Messages heard.
    heard: u64,
    /// Changes of what the call says of itself that were heard.
    remarks: u64,
    /// One was announced that comes through the pipe.
    announced: Option<u32>,
    stray: Stray,
}

impl HostsEnd {
    pub(super) fn new(lanes: Lanes) -> Self {
        HostsEnd {
            lanes: Arc::new(lanes),
            calls: Writer::default(),
            replies: Reader::default(),
            payload: None,
            spare: Vec::new(),
            heard: 0,
            remarks: 0,
            announced: None,
            stray: Stray::default(),
        }
    }

    /// Is there nothing to hear?
    pub(super) fn is_silent(&self) -> bool {
        self.replies.is_empty(self.lanes.replies())
    }

    /// Has the child ring for the next message. False: it is there.
    pub(super) fn wake_me(&self) -> bool {
        self.sleep(self.heard.saturating_add(1))
    }

    /// The same, unless somebody takes it within moments.
    pub(super) fn wake_me_soon(&self) -> bool {
        self.sleep(SOON)
    }

    /// Goes to sleep until the message of that number. False: there is something.
    fn sleep(&self, until: u64) -> bool {
        let lane = self.lanes.replies();
        let sleeps = self.replies.sleep(lane, until) && !self.has_remark();
        if !sleeps {
            lane.wake();
        }
        sleeps
    }

    /// Has the call said anything of itself?
    fn has_remark(&self) -> bool {
        self.lanes.remarks().is_new(self.remarks)
    }

    /// Looks at the page for a moment.
    fn look(&self) -> bool {
        let is_there = || !self.replies.is_empty(self.lanes.replies());
        look::watch(is_there) || look::give_way(is_there)
    }
}

/// How long to listen.
#[derive(Clone, Copy)]
pub(super) enum Until {
    Ever,
    By(Instant),
    /// From when it falls asleep.
    For(Duration),
    /// What is there already.
    Now,
}

impl Until {
    fn is_over(self) -> bool {
        matches!(self, Until::By(deadline) if Instant::now() >= deadline)
    }
}

/// What was heard.
pub(super) enum Heard {
    /// The reply to a call; a value is in the [payload](Child::payload). `took`: how long it ran, where that is known.
    Reply { id: u64, failure: Option<Failure>, took: Option<Duration> },
    /// How far the call is that runs.
    Progress(Progress),
    /// The next reply comes through the pipe, which may take long to read: [`Child::hear_from_pipe`].
    Pipe,
    /// The time is over.
    Late,
    /// The child is gone, or going.
    Gone,
    /// Nothing: it was not told of its call, because the system would not hand over what goes beside it.
    Unsent(io::Error),
    /// Something that is no reply: it cannot be trusted any more.
    Nonsense(WireError),
}

/// What stands in the pipe of replies.
enum Pipe {
    /// Bells only, and they have been taken, what was announced, or the beginning of something stray.
    Quiet,
    End,
    Nonsense(WireError),
}

/// The beginning of a frame that nobody announced: of a bell, or of nonsense. It is not kept.
#[derive(Default)]
struct Stray {
    header: Vec<u8>,
    kind: Option<Kind>,
    /// Bytes that are still to come.
    missing: u64,
}

impl Stray {
    fn is_there(&self) -> bool {
        !self.header.is_empty()
    }

    /// Takes some of the bytes; an error when they are not what may be there.
    fn take(&mut self, bytes: &[u8], limit: u64) -> (usize, Result<(), WireError>) {
        if let Some(kind) = self.kind {
            let count = usize::try_from(self.missing).map_or(bytes.len(), |missing| missing.min(bytes.len()));
            self.missing -= count as u64;
            return (count, if self.missing == 0 { Err(unexpected(kind)) } else { Ok(()) });
        }
        let count = bytes.len().min(HEADER - self.header.len());
        self.header.extend_from_slice(&bytes[..count]);
        if self.header.len() < HEADER {
            return (count, Ok(()));
        }
        if self.header == BELL {
            self.header.clear();
            return (count, Ok(()));
        }
        (count, self.judge(limit))
    }

    fn judge(&mut self, limit: u64) -> Result<(), WireError> {
        let (length, kind) = frame::announced(&self.header, limit)?;
        self.kind = Some(kind);
        self.missing = length;
        if length == 0 { Err(unexpected(kind)) } else { Ok(()) }
    }
}

impl Child {
    /// Sends a frame through the page; false if it does not go through. Somebody has to ring then.
    pub(super) fn post(&mut self, frame: &Parcel) -> bool {
        self.page.as_mut().is_some_and(|page| page.calls.push(page.lanes.calls(), &frame.bytes, 0))
    }

    /// Sends a frame through the pipe, to one that takes some of it within each `limit`.
    pub(super) fn post_in_pipe(&mut self, frame: [&[u8]; 3], limit: Option<Duration>) -> Result<(), Heard> {
        self.connection.writer_mut().patience = limit;
        let sent = self.connection.send_pieces(frame);
        self.was_sent = sent.is_ok();
        sent.map_err(|error| match error {
            WireError::TooLong { .. } => Heard::Nonsense(error),
            WireError::Io(error) if error.kind() == io::ErrorKind::TimedOut => Heard::Late,
            _ => Heard::Gone,
        })
    }

    /// Sends what goes beside the frame with that id, before it, to one that takes it within `limit`.
    pub(super) fn enclose(
        &mut self,
        id: u64,
        enclosed: &[Enclosure],
        limit: Option<Duration>,
    ) -> Result<(), Heard> {
        if enclosed.is_empty() {
            return Ok(());
        }
        let sent = self.admit(enclosed, limit);
        let sent = sent.and_then(|()| {
            self.post.send(post::Kind::Memory, id, &descriptors(enclosed), Some(&self.exit), limit)
        });
        sent.map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => Heard::Late,
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Heard::Gone,
            _ => Heard::Unsent(error),
        })
    }

    /// The child is about to be sent the handles among those: it finds their objects at its desk.
    fn admit(&mut self, enclosed: &[Enclosure], limit: Option<Duration>) -> io::Result<()> {
        for object in objects_in(enclosed) {
            let desk = match &self.desk {
                Some(desk) => desk,
                None => {
                    let (ours, theirs) = UnixStream::pair()?;
                    let desk = Desk::open(ours, self.connection.limit())?;
                    self.post.send(post::Kind::Desk, 0, &[theirs.as_fd()], Some(&self.exit), limit)?;
                    self.desk.insert(desk)
                }
            };
            desk.admit(&object);
        }
        Ok(())
    }

    /// The same, and says so in the page.
    pub(super) fn post_long(&mut self, frame: &Parcel, limit: Option<Duration>) -> Result<(), Heard> {
        if let Some(page) = &mut self.page
            && !page.calls.announce(page.lanes.calls(), 0)
        {
            // It has answered all calls before, so it has read them: that it says otherwise is a lie.
            return Err(Heard::Nonsense(WireError::Closed));
        }
        self.post_in_pipe(frame.pieces(), limit)
    }

    /// Wakes the child, if it sleeps. One that cannot be woken is gone, which is heard of.
    pub(super) fn ring(&mut self) {
        let is_asleep = self.page.as_ref().is_some_and(|page| {
            let lane = page.lanes.calls();
            lane.wanted().is_some() && lane.rouse()
        });
        if is_asleep {
            // It takes each bell when it wakes, so there is room for one, unless it lies about being asleep.
            let _ = self.post_in_pipe([&BELL, &[], &[]], Some(Duration::from_millis(100)));
        }
    }

    /// Waits for what comes next. `look`: for a moment without sleeping. `after`: if it sleeps, it is to be woken when
    /// so many replies are there.
    pub(super) fn hear(&mut self, until: Until, look: bool, after: usize) -> Heard {
        let deadline = match until {
            Until::By(deadline) => Some(deadline),
            _ => None,
        };
        if self.page.is_none() {
            return match self.hear_from_pipe(deadline) {
                Heard::Progress(_) if until.is_over() => Heard::Late,
                heard => heard,
            };
        }
        let mut may_look = look;
        let mut may_ask_again = true;
        // What there was to hear when the time was over, or it was gone.
        let mut last = None;
        loop {
            match self.hear_from_page() {
                // One that goes on talking of itself does not keep us from noticing that.
                Some(Heard::Progress(_)) if matches!(last, Some(Heard::Gone)) || until.is_over() => {}
                Some(heard) => return heard,
                None => {}
            }
            if let Some(last) = last {
                return last;
            }
            let Some(page) = &mut self.page else { unreachable!("it was there above") };
            if may_look {
                may_look = false;
                if page.look() {
                    continue;
                }
            }
            let deadline = match until {
                Until::Ever => None,
                Until::By(deadline) => Some(deadline),
                Until::For(time) => deadline_after(time),
                Until::Now => return Heard::Late,
            };
            let lane = page.lanes.replies();
            if !page.replies.sleep(lane, page.heard.saturating_add(after as u64)) {
                continue;
            }
            // Once: of one that goes on talking nothing may ever be heard as a whole.
            if may_ask_again && page.has_remark() {
                may_ask_again = false;
                lane.wake();
                continue;
            }
            let reader = self.connection.reader();
            let woken = if reader.buffer().is_empty() { reader.get_ref().wait(deadline) } else { Ok(true) };
            match woken {
                Ok(false) => last = Some(Heard::Late),
                Ok(true) => match self.look_into_pipe() {
                    Pipe::Quiet => {}
                    Pipe::End => last = Some(Heard::Gone),
                    Pipe::Nonsense(error) => return Heard::Nonsense(error),
                },
                Err(_) => last = Some(Heard::Gone),
            }
            if let Some(page) = &self.page {
                page.lanes.replies().wake();
            }
        }
    }

    /// The next message of the page.
    fn hear_from_page(&mut self) -> Option<Heard> {
        let page = self.page.as_mut()?;
        // In this order: what a call says of itself is there before its reply is, and heard before that.
        let is_silent = page.is_silent();
        if let Some(progress) = page.lanes.remarks().progress(&mut page.remarks) {
            return Some(Heard::Progress(progress));
        }
        if is_silent {
            return None;
        }
        let mut frame = page.payload.take().unwrap_or_else(|| std::mem::take(&mut page.spare));
        let next = page.replies.next(page.lanes.replies(), &mut frame);
        page.heard += u64::from(next != Next::Nothing);
        if next != Next::Nothing && page.stray.is_there() {
            // It has said something else before.
            return Some(Heard::Nonsense(WireError::truncated(HEADER, page.stray.header.len())));
        }
        Some(match next {
            Next::Nothing => {
                page.spare = frame;
                return None;
            }
            Next::InPipe { note } => {
                page.spare = frame;
                page.announced = Some(note);
                Heard::Pipe
            }
            Next::Nonsense => Heard::Nonsense(WireError::Malformed {
                kind: Kind::Returned,
                reason: "it is longer than there is room for".into(),
            }),
            Next::Frame { note } => match frame::parse(&frame) {
                Ok((kind, id)) => {
                    frame.drain(..HEADER);
                    let (kind, received) = open(&self.post, kind, id, self.connection.limit());
                    self.received = received;
                    let heard = reply(kind, id, &frame, Some(note));
                    page.payload = Some(frame);
                    heard
                }
                Err(error) => Heard::Nonsense(error),
            },
        })
    }

    /// Waits for a reply in the pipe.
    pub(super) fn hear_from_pipe(&mut self, deadline: Option<Instant>) -> Heard {
        let mut note = None;
        if let Some(page) = &mut self.page {
            page.spare = page.payload.take().unwrap_or_default();
            note = page.announced.take();
        }
        self.connection.reader_mut().get_mut().deadline = deadline;
        let received = loop {
            match self.connection.receive() {
                Ok(Some((Kind::Bell, _))) if note.is_some() => {}
                received => break received,
            }
        };
        self.connection.reader_mut().get_mut().deadline = None;
        match received {
            Ok(Some((kind, id))) => {
                let (kind, received) = open(&self.post, kind, id, self.connection.limit());
                self.received = received;
                reply(kind, id, self.connection.payload(), note)
            }
            Ok(None) | Err(WireError::Truncated { .. } | WireError::Closed) => Heard::Gone,
            Err(WireError::Io(error)) if error.kind() == io::ErrorKind::TimedOut => Heard::Late,
            Err(WireError::Io(_)) => Heard::Gone,
            Err(error) => Heard::Nonsense(error),
        }
    }

    /// Takes out of the pipe what is not announced: bells, and what nobody asked for. There is something in it, or it is
    /// at its end.
    fn look_into_pipe(&mut self) -> Pipe {
        let limit = self.connection.limit();
        let (Some(page), reader) = (&mut self.page, self.connection.reader_mut()) else { return Pipe::Quiet };
        reader.get_mut().deadline = Some(Instant::now());
        let found = loop {
            let bytes = match reader.fill_buf() {
                Ok([]) => break Pipe::End,
                Ok(bytes) => bytes,
                // There is nothing more.
                Err(error) if error.kind() == io::ErrorKind::TimedOut => break Pipe::Quiet,
                Err(_) => break Pipe::End,
            };
            // It was announced before it was written: so it is seen now.
            let is_announced = page.replies.is_one_in_pipe(page.lanes.replies());
            if is_announced && !page.stray.is_there() && !bytes.starts_with(&BELL[..bytes.len().min(HEADER)])
            {
                break Pipe::Quiet;
            }
            let (count, judged) = page.stray.take(bytes, limit);
            reader.consume(count);
            if let Err(error) = judged {
                break Pipe::Nonsense(error);
            }
        };
        reader.get_mut().deadline = None;
        found
    }

    /// Did the reply heard last come through the page?
    pub(super) fn was_heard_in_page(&self) -> bool {
        self.page.as_ref().is_some_and(|page| page.payload.is_some())
    }

    /// The reply heard last, to that call. What went beside the call is let go of: whoever is told of the reply may be the
    /// last to hold it.
    pub(super) fn reply_to(&mut self, letter: &mut Letter) -> Reply<'_> {
        let mut received = std::mem::take(&mut self.received);
        if !letter.enclosed.is_empty() {
            let given = std::mem::take(&mut letter.enclosed);
            received = received.sent_by_one_given(&given);
            discard(given);
        }
        Reply { bytes: self.payload(), received }
    }

    /// How many bytes the reply heard last took.
    pub(super) fn reply_bytes(&self) -> usize {
        let payload = self.page.as_ref().and_then(|page| page.payload.as_ref());
        HEADER + payload.map_or_else(|| self.connection.payload().len(), Vec::len)
    }

    /// What the reply heard last brought. Its memory may be taken.
    fn payload(&mut self) -> &mut Vec<u8> {
        match self.page.as_mut().and_then(|page| page.payload.as_mut()) {
            Some(payload) => payload,
            None => self.connection.payload_mut(),
        }
    }

    /// Has nothing to say, as far as can be seen; what there is to hear of it will wake us.
    pub(super) fn is_quiet(&mut self) -> bool {
        !self.is_dead() && self.page.as_ref().is_some_and(HostsEnd::wake_me_soon)
    }

    /// Has it died since its last reply, or said something that nobody asked for?
    pub(super) fn is_dead(&mut self) -> bool {
        if self.page.as_ref().is_some_and(|page| !page.replies.is_empty(page.lanes.replies())) {
            return true;
        }
        let reader = self.connection.reader();
        if !reader.buffer().is_empty() || reader.get_ref().has_news() {
            let is_quiet = matches!(self.look_into_pipe(), Pipe::Quiet);
            return !is_quiet || self.page.as_ref().is_none_or(|page| page.stray.is_there());
        }
        false
    }

    /// Of one that is buried, and has no page: may it have begun the call that it was sent? What is still in the pipe, it
    /// has not.
    pub(super) fn took_call(&self) -> bool {
        self.was_sent && self.connection.writer().is_empty()
    }
}

/// What a frame is about, and what came beside it: never that of a frame before.
fn open(post: &Post, kind: Kind, id: u64, most: u64) -> (Kind, Received) {
    let (kind, encloses) = kind.opened();
    (kind, if encloses { post.take(id, most) } else { Received::default() })
}

/// What a frame says, if it is a reply.
fn reply(kind: Kind, id: u64, payload: &[u8], note: Option<u32>) -> Heard {
    let took = note.map(|nanoseconds| Duration::from_nanos(nanoseconds.into()));
    match kind {
        Kind::Returned => Heard::Reply { id, failure: None, took },
        Kind::Failed => match Failure::decode(kind, payload) {
            Ok(failure) => Heard::Reply { id, failure: Some(failure), took },
            Err(error) => Heard::Nonsense(error),
        },
        Kind::Progress => match Progress::parse(id, payload) {
            Some(progress) => Heard::Progress(progress),
            None => Heard::Nonsense(unexpected(kind)),
        },
        kind => Heard::Nonsense(unexpected(kind)),
    }
}

pub(super) fn unexpected(kind: Kind) -> WireError {
    WireError::Unexpected { kind, wanted: "the reply to the call" }
}
