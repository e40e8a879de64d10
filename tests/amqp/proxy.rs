//! A network between two programs that does what networks do: a TCP proxy in the test's own process.
//!
//! ```text
//!   client ──▶ reader ── pieces, each with its time ──▶ writer ──▶ broker      two threads each way, for each connection
//!          ◀── writer ◀── pieces, each with its time ── reader ◀──
//! ```
//!
//! | weather     | what comes in                      | connections that are there       | new ones                    |
//! |-------------|------------------------------------|----------------------------------|-----------------------------|
//! | `heal`      | goes on                            | work, but those that lost bytes  | work                        |
//! | `freeze`    | is kept until `heal`               | stand still: a cable that is out | are accepted, nothing more  |
//! | `half_open` | is lost                            | are dead, and nobody is told     | are accepted, nothing more  |
//! | `refuse`    | goes on                            | work                             | are reset at once           |
//!
//! `cut` resets connections, all or one, in any weather; `delay` and `limit` make the way long and narrow.
//!
//! Not here: what is sent (it knows no AMQP). The rule: nothing is lost, doubled or brought out of order but as the table
//! says, and no thread of it outlives it by more than a moment.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often a thread that waits for the network looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Weather {
    Fair,
    Frozen,
    Lost,
    Refused,
}

/// A proxy. Its connections end with it.
#[derive(Debug)]
pub(crate) struct Proxy {
    own: SocketAddr,
    shared: Arc<Shared>,
    porter: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    weather: Mutex<Weather>,
    changed: Condvar,
    lines: Mutex<Vec<Weak<Line>>>,
    accepted: AtomicU64,
    /// In microseconds, each way.
    delay: AtomicU64,
    /// Bytes a second each way and for each connection; 0: as many as there are.
    limit: AtomicU64,
    is_over: AtomicBool,
}

/// A connection, both halves of it.
#[derive(Debug)]
struct Line {
    near: TcpStream,
    far: TcpStream,
    /// It was cut.
    is_cut: AtomicBool,
    /// Bytes of it were lost: it never works again.
    is_holed: AtomicBool,
}

impl Proxy {
    /// On a port of its own, to that one of this machine.
    pub(crate) fn to(port: u16) -> Proxy {
        Proxy::at("127.0.0.1", port)
    }

    /// The same at that address of this machine.
    pub(crate) fn at(address: &str, port: u16) -> Proxy {
        let listener = TcpListener::bind((address, 0)).expect("a free port");
        let own = listener.local_addr().expect("the address of a socket that is bound");
        let shared = Arc::new(Shared {
            upstream: SocketAddr::from(([127, 0, 0, 1], port)),
            weather: Mutex::new(Weather::Fair),
            changed: Condvar::new(),
            lines: Mutex::default(),
            accepted: AtomicU64::new(0),
            delay: AtomicU64::new(0),
            limit: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        });
        let its = Arc::clone(&shared);
        let porter = thread::Builder::new().name("proxy".into()).spawn(move || its.serve(&listener));
        Proxy { own, shared, porter: Some(porter.expect("a thread for the proxy")) }
    }

    /// To the broker of that URL.
    pub(crate) fn before(url: &str) -> Proxy {
        Proxy::to(port_of(url))
    }

    /// That URL, but by way of this proxy.
    pub(crate) fn url(&self, url: &str) -> String {
        url.replacen(&format!(":{}/", port_of(url)), &format!(":{}/", self.own.port()), 1)
    }

    /// Resets all connections; how many they were.
    pub(crate) fn cut(&self) -> usize {
        let lines = self.shared.alive();
        lines.iter().for_each(|line| line.cut());
        lines.len()
    }

    /// Resets one of them, if there are any.
    pub(crate) fn cut_one(&self, which: u64) -> usize {
        let lines = self.shared.alive();
        if lines.is_empty() {
            return 0;
        }
        lines[which as usize % lines.len()].cut();
        1
    }

    /// How many have come, ever, and were not reset at once.
    pub(crate) fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How many connections there are.
    pub(crate) fn count(&self) -> usize {
        self.shared.alive().len()
    }

    pub(crate) fn freeze(&self) {
        self.turn(Weather::Frozen);
    }

    pub(crate) fn half_open(&self) {
        self.turn(Weather::Lost);
    }

    pub(crate) fn refuse(&self) {
        self.turn(Weather::Refused);
    }

    pub(crate) fn heal(&self) {
        self.turn(Weather::Fair);
    }

    /// Each way, for what comes in from now on.
    pub(crate) fn delay(&self, time: Duration) {
        self.shared.delay.store(time.as_micros() as u64, Ordering::Relaxed);
    }

    /// Bytes a second, each way and for each connection.
    pub(crate) fn limit(&self, bytes: u64) {
        self.shared.limit.store(bytes, Ordering::Relaxed);
    }

    fn turn(&self, weather: Weather) {
        *self.shared.weather() = weather;
        self.shared.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        self.cut();
        self.shared.changed.notify_all();
        // It waits for the next one who comes.
        drop(TcpStream::connect(self.own));
        if let Some(porter) = self.porter.take() {
            let _ = porter.join();
        }
    }
}

impl Shared {
    fn weather(&self) -> MutexGuard<'_, Weather> {
        self.weather.lock().expect("no thread panics with it")
    }

    /// The connections that are there. Nobody but their threads keeps them.
    fn alive(&self) -> Vec<Arc<Line>> {
        let mut lines = self.lines.lock().expect("no thread panics with it");
        lines.retain(|line| line.strong_count() > 0);
        let alive = lines.iter().filter_map(Weak::upgrade);
        alive.filter(|line| !line.is_cut.load(Ordering::SeqCst)).collect()
    }

    fn serve(self: Arc<Self>, listener: &TcpListener) {
        for near in listener.incoming() {
            if self.is_over.load(Ordering::SeqCst) {
                return;
            }
            let Ok(near) = near else { continue };
            if *self.weather() == Weather::Refused {
                reset_when_closed(&near);
                continue;
            }
            // Who comes while the way is closed is let in, and hears nothing: the other half is made all the same, so that
            // `heal` has something to go on with.
            let far = TcpStream::connect(self.upstream);
            let Ok(far) = far else {
                reset_when_closed(&near);
                continue;
            };
            for stream in [&near, &far] {
                // What is small is to come at once, as it was sent.
                let _ = stream.set_nodelay(true);
                let _ = stream.set_write_timeout(Some(LOOK));
            }
            self.accepted.fetch_add(1, Ordering::SeqCst);
            let (is_cut, is_holed) = (AtomicBool::new(false), AtomicBool::new(false));
            let line = Arc::new(Line { near, far, is_cut, is_holed });
            self.lines.lock().expect("no thread panics with it").push(Arc::downgrade(&line));
            for is_out in [true, false] {
                let (pieces, taken) = mpsc::channel();
                let (shared, its) = (Arc::clone(&self), Arc::clone(&line));
                start(move || shared.read(&its, is_out, &pieces));
                let (shared, its) = (Arc::clone(&self), Arc::clone(&line));
                start(move || shared.write(&its, is_out, &taken));
            }
        }
    }

    fn read(&self, line: &Line, is_out: bool, pieces: &Sender<(Instant, Vec<u8>)>) {
        let mut from = if is_out { &line.near } else { &line.far };
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = match from.read(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // It was reset: so is the other half.
                Err(_) => return line.cut(),
            };
            let at = Instant::now() + Duration::from_micros(self.delay.load(Ordering::Relaxed));
            // Nothing: that is the end, and goes on as all else does.
            if line.is_cut.load(Ordering::SeqCst)
                || pieces.send((at, buffer[..count].to_vec())).is_err()
                || count == 0
            {
                return;
            }
        }
    }

    fn write(&self, line: &Line, is_out: bool, pieces: &Receiver<(Instant, Vec<u8>)>) {
        let mut to = if is_out { &line.far } else { &line.near };
        let mut free_at = Instant::now();
        let is_over = || line.is_cut.load(Ordering::SeqCst) || self.is_over.load(Ordering::SeqCst);
        while !is_over() {
            let (at, piece) = match pieces.recv_timeout(LOOK) {
                Ok(piece) => piece,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let limit = self.limit.load(Ordering::Relaxed);
            if limit > 0 {
                free_at =
                    free_at.max(Instant::now()) + Duration::from_secs_f64(piece.len() as f64 / limit as f64);
            }
            if !self.rest(line, at.max(free_at)) {
                continue;
            }
            if piece.is_empty() {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            let mut rest = &piece[..];
            while !rest.is_empty() && !is_over() {
                match to.write(rest) {
                    Ok(count) => rest = &rest[count..],
                    Err(error)
                        if matches!(
                            error.kind(),
                            ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                        ) => {}
                    Err(_) => return line.cut(),
                }
            }
        }
    }

    /// Until that piece may go on: at its time, and when the weather allows; false if it never may.
    fn rest(&self, line: &Line, at: Instant) -> bool {
        let mut weather = self.weather();
        loop {
            if line.is_cut.load(Ordering::SeqCst) || self.is_over.load(Ordering::SeqCst) {
                return false;
            }
            if *weather == Weather::Lost {
                line.is_holed.store(true, Ordering::SeqCst);
            }
            if line.is_holed.load(Ordering::SeqCst) {
                return false;
            }
            let now = Instant::now();
            let pause = match *weather {
                Weather::Frozen => LOOK,
                _ if now < at => LOOK.min(at - now),
                _ => return true,
            };
            (weather, _) = self.changed.wait_timeout(weather, pause).expect("no thread panics with it");
        }
    }
}

impl Line {
    /// Both halves are reset as soon as the threads that have them let go: those that read are woken, without a word to
    /// the other side; those that write look from time to time.
    fn cut(&self) {
        if !self.is_cut.swap(true, Ordering::SeqCst) {
            for stream in [&self.near, &self.far] {
                reset_when_closed(stream);
                let _ = stream.shutdown(Shutdown::Read);
            }
        }
    }
}

/// Its end is a reset, and not an orderly one.
fn reset_when_closed(stream: &TcpStream) {
    let _ = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
}

fn start(body: impl FnOnce() + Send + 'static) {
    // The test's own watchdog says so if it cannot go on without it.
    let _ = thread::Builder::new().name("proxy".into()).spawn(body);
}

/// The port in `amqp://user:password@host:port/vhost`.
fn port_of(url: &str) -> u16 {
    let (_, behind) = url.rsplit_once('@').expect("a URL with a user");
    let (authority, _) = behind.split_once('/').expect("a URL with a virtual host");
    let (_, port) = authority.rsplit_once(':').expect("a URL with a port");
    port.parse().expect("a port")
}

/// What the proxy promises, without any broker.
mod tests {
    use super::*;

    /// Sends back what it gets.
    fn echo() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        start(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                start(move || drop(std::io::copy(&mut &stream, &mut &stream)));
            }
        });
        port
    }

    fn open(proxy: &Proxy) -> TcpStream {
        let stream = TcpStream::connect(proxy.own).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        stream
    }

    fn asks(mut stream: &TcpStream, text: &[u8]) -> std::io::Result<Vec<u8>> {
        stream.write_all(text)?;
        let mut answer = vec![0; text.len()];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    }

    #[test]
    fn a_proxy_does_what_its_table_says() {
        let proxy = Proxy::to(echo());
        let stream = open(&proxy);
        assert_eq!(asks(&stream, b"fair").unwrap(), b"fair");

        // A cable that is out: nothing comes, and all of it when it is in again.
        proxy.freeze();
        assert_eq!(asks(&stream, b"late").unwrap_err().kind(), ErrorKind::WouldBlock);
        proxy.heal();
        stream.set_read_timeout(None).unwrap();
        let mut late = [0; 4];
        (&stream).read_exact(&mut late).unwrap();
        assert_eq!(&late, b"late");

        // A reset is seen as one.
        assert_eq!(proxy.cut(), 1);
        assert_eq!((&stream).read(&mut late).unwrap_err().kind(), ErrorKind::ConnectionReset);

        // A dead one stays dead when others live.
        let dead = open(&proxy);
        assert_eq!(asks(&dead, b"here").unwrap(), b"here");
        proxy.half_open();
        assert_eq!(asks(&dead, b"lost").unwrap_err().kind(), ErrorKind::WouldBlock);
        proxy.heal();
        assert_eq!(asks(&dead, b"lost").unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(asks(&open(&proxy), b"new").unwrap(), b"new");

        proxy.refuse();
        assert!(asks(&open(&proxy), b"no").is_err_and(|error| error.kind() != ErrorKind::WouldBlock));
        proxy.heal();
        proxy.delay(Duration::from_millis(40));
        let (far, at) = (open(&proxy), Instant::now());
        far.set_read_timeout(None).unwrap();
        assert_eq!(asks(&far, b"slow").unwrap(), b"slow");
        assert!(at.elapsed() >= Duration::from_millis(80), "there and back, in {:?}", at.elapsed());
        proxy.delay(Duration::ZERO);
        proxy.limit(100_000);
        let at = Instant::now();
        assert_eq!(asks(&far, &[7; 20_000]).unwrap(), [7; 20_000]);
        assert!(at.elapsed() >= Duration::from_millis(200), "20 kB at 100 kB/s, in {:?}", at.elapsed());
    }
}
