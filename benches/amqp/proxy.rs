//! A network that is slow: whatever comes is handed on after a delay, in its order, both ways. How much fits is not limited.
//!
//! Not here: who talks through it. The rule: what arrives together leaves together, as on a long wire.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// The same URL, by way of a port of this process that is `delay` away from the broker. Lives as long as the process.
pub(crate) fn behind(url: &str, delay: Duration) -> String {
    let (scheme, rest) = url.split_once("://").expect("a URL");
    let (user, place) = rest.rsplit_once('@').expect("a user in the URL");
    let (broker, vhost) = place.split_once('/').unwrap_or((place, ""));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its number").port();
    let broker = broker.to_owned();
    thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let Ok(far) = TcpStream::connect(&broker) else { continue };
            let ends = [&near, &far].map(|end| {
                let _ = end.set_nodelay(true);
                end.try_clone().expect("a second handle of a socket")
            });
            let [near_again, far_again] = ends;
            carry(near, far, delay);
            carry(far_again, near_again, delay);
        }
    });
    format!("{scheme}://{user}@127.0.0.1:{port}/{vhost}")
}

fn carry(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let (send, due) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if send.send((Instant::now() + delay, buffer[..count].to_vec())).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || {
        for (when, bytes) in due {
            thread::sleep(when.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}
