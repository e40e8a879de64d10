//! What bulk data costs, beside shared memory by hand and beside a vector through the pipe, in one run:
//! `cargo bench --bench bulk`. Read the ratios.
//!
//! By hand is the limit: one process writes a file of memory (memfd) and hands its descriptor to another, which maps it and
//! reads it. No queue, no future, no seals. Not here: short calls (`calls.rs`).

mod rivals;

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use concurrent_futures::{Blob, Executor, ProcessPoolExecutor, init};
use rivals::{ratio, size};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// One byte of each page.
fn touch(bytes: &[u8]) -> u64 {
    rivals::touch(bytes)
}

fn main() {
    init();
    // Before there is a second thread.
    let by_hand = ByHand::start();
    let pool = ProcessPoolExecutor::new(1).unwrap();
    for (name, bytes) in [
        ("64 KiB", 64 << 10),
        ("256 KiB", 256 << 10),
        ("1 MiB", 1 << 20),
        ("8 MiB", 8 << 20),
        ("64 MiB", 64 << 20),
    ] {
        let len = size(bytes) as usize;
        let n = ((64 << 20) / len).clamp(1, 100) as u64;
        let data: Vec<u8> = (0..len).map(|n| (n >> 12) as u8).collect();
        let sum = touch(&data);
        let limit = || (0..n).for_each(|_| assert_eq!(by_hand.write_and_read(&data), sum));
        let build = || Blob::build(data.len(), |all| all.copy_from_slice(&data));
        ratio(
            &format!("{name} in, a vector / shared memory by hand"),
            n,
            || {
                (0..n).for_each(|_| {
                    let blob = Blob::from(data.clone());
                    assert_eq!(pool.submit(|blob: Blob| touch(&blob), blob).result().unwrap(), sum);
                });
            },
            limit,
        );
        let through_map = || (0..n).for_each(|_| assert_eq!(by_hand.map_and_read(&data), sum));
        ratio(
            &format!("{name} in, built / shared memory by hand, written through a mapping"),
            n,
            || {
                (0..n).for_each(|_| {
                    assert_eq!(pool.submit(|blob: Blob| touch(&blob), build()).result().unwrap(), sum);
                });
            },
            through_map,
        );
        let made = |len: usize| {
            Blob::build(len, |all| all.iter_mut().enumerate().for_each(|(n, byte)| *byte = (n >> 12) as u8))
        };
        ratio(
            &format!("{name} out / shared memory by hand, written through a mapping"),
            n,
            || (0..n).for_each(|_| assert_eq!(touch(&pool.submit(made, len).result().unwrap()), sum)),
            through_map,
        );
        ratio(
            &format!("{name} in, built / a vector through the pipe"),
            n,
            || {
                (0..n).for_each(|_| {
                    assert_eq!(pool.submit(|blob: Blob| touch(&blob), build()).result().unwrap(), sum);
                });
            },
            || {
                (0..n).for_each(|_| {
                    let whole = |bytes: Vec<u8>| touch(&bytes);
                    assert_eq!(pool.submit(whole, data.clone()).result().unwrap(), sum);
                });
            },
        );
        let kept = build();
        ratio(
            &format!("{name} there and back, again / a vector through the pipe"),
            n,
            || {
                (0..n).for_each(|_| {
                    let back = pool.submit(|blob: Blob| blob, kept.clone()).result().unwrap();
                    assert_eq!(touch(&back), sum);
                });
            },
            || {
                (0..n).for_each(|_| {
                    let back = pool.submit(|bytes: Vec<u8>| bytes, data.clone()).result().unwrap();
                    assert_eq!(touch(&back), sum);
                });
            },
        );
    }
    drop(pool);
    broadcast(&by_hand);
}

/// An image for many tasks, of which each looks at a tile.
fn broadcast(by_hand: &ByHand) {
    const TILE: usize = 64 << 10;
    let (len, tasks) = (size(200 << 20) as usize, size(1000) as usize);
    let pool = ProcessPoolExecutor::new(2).unwrap();
    let data = vec![1_u8; len];
    let tile = |(image, n): (Blob, usize)| {
        touch(&image[n * TILE % image.len().max(TILE)..][..TILE.min(image.len())])
    };
    let median = |mut times: Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    let ours = median(
        (0..5)
            .map(|_| {
                let start = Instant::now();
                let image = Blob::build(len, |all| all.copy_from_slice(&data));
                assert!(pool.map(tile, (0..tasks).map(|n| (image.clone(), n))).all(|sum| sum.is_ok()));
                start.elapsed()
            })
            .collect(),
    );
    let limit = median(
        (0..5)
            .map(|_| {
                let start = Instant::now();
                by_hand.write_and_read(&data);
                start.elapsed()
            })
            .collect(),
    );
    let few = 4;
    let start = Instant::now();
    let whole = |bytes: Vec<u8>| touch(&bytes);
    assert!(pool.map(whole, (0..few).map(|_| data.clone())).all(|sum| sum.is_ok()));
    let vector = start.elapsed() / few * tasks as u32;
    println!(
        "broadcast of {len} bytes to {tasks} tasks: {ours:.1?}; once to one process by hand: {limit:.1?}; \
         as vectors (of {few}, times {}): {vector:.1?}",
        tasks / few as usize
    );
}

/// A process by hand, at the other end of a pair of sockets.
struct ByHand(UnixStream);

impl ByHand {
    #[allow(unsafe_code)]
    fn start() -> ByHand {
        let (ours, theirs) = UnixStream::pair().unwrap();
        // SAFETY: there is one thread, so the child may do whatever it likes.
        match unsafe { libc::fork() } {
            0 => {
                drop(ours);
                while let Some((file, len)) = receive(&theirs) {
                    let sum = with_map(file.as_fd(), len, touch);
                    (&theirs).write_all(&sum.to_le_bytes()).unwrap();
                }
                std::process::exit(0)
            }
            child => assert!(child > 0, "fork"),
        }
        ByHand(ours)
    }

    fn write_and_read(&self, data: &[u8]) -> u64 {
        let file = memfd_create("by hand", MemfdFlags::CLOEXEC).unwrap();
        let mut left = data;
        while !left.is_empty() {
            left = &left[rustix::io::write(&file, left).unwrap()..];
        }
        self.have_read(&file, data.len())
    }

    #[allow(unsafe_code)]
    fn map_and_read(&self, data: &[u8]) -> u64 {
        let file = memfd_create("by hand", MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&file, data.len() as u64).unwrap();
        // SAFETY: a new mapping at a place that the kernel chooses, of a file that has so many bytes and that nobody else
        // has; it is unmapped when all is written.
        unsafe {
            let how = ProtFlags::READ | ProtFlags::WRITE;
            let start = mmap(std::ptr::null_mut(), data.len(), how, MapFlags::SHARED, &file, 0).unwrap();
            std::slice::from_raw_parts_mut(start.cast(), data.len()).copy_from_slice(data);
            munmap(start, data.len()).unwrap();
        }
        self.have_read(&file, data.len())
    }

    fn have_read(&self, file: &OwnedFd, len: usize) -> u64 {
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        let fds = [file.as_fd()];
        assert!(rights.push(SendAncillaryMessage::ScmRights(&fds)));
        let len = (len as u64).to_le_bytes();
        sendmsg(&self.0, &[IoSlice::new(&len)], &mut rights, SendFlags::empty()).unwrap();
        let mut sum = [0; 8];
        (&self.0).read_exact(&mut sum).unwrap();
        u64::from_le_bytes(sum)
    }
}

fn receive(socket: &UnixStream) -> Option<(OwnedFd, usize)> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let mut len = [0; 8];
    let received =
        recvmsg(socket, &mut [IoSliceMut::new(&mut len)], &mut rights, RecvFlags::CMSG_CLOEXEC).unwrap();
    if received.bytes == 0 {
        return None;
    }
    let file = rights.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Some((file.unwrap(), u64::from_le_bytes(len) as usize))
}

#[allow(unsafe_code)]
fn with_map<R>(file: BorrowedFd<'_>, len: usize, look: impl FnOnce(&[u8]) -> R) -> R {
    // SAFETY: a new mapping at a place that the kernel chooses; the file has so many bytes, and nobody writes to it any
    // more. It is unmapped when nobody looks at it any more.
    unsafe {
        let start = mmap(std::ptr::null_mut(), len, ProtFlags::READ, MapFlags::SHARED, file, 0).unwrap();
        let result = look(std::slice::from_raw_parts(start.cast(), len));
        munmap(start, len).unwrap();
        result
    }
}
