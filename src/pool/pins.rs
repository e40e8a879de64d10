//! Pinning: which worker of a pool runs on which CPU.
//!
//! ```text
//!   usable CPUs   0    2    3        the one with the fewest workers is the next to get one,
//!   workers       ■■   ■    ■        and of several the first
//! ```
//!
//! Not here: who asks for it (the builders). The rule: a CPU is given back when its worker leaves, so that the workers
//! there are stay spread evenly. That a worker cannot be pinned costs speed, and no call.

use std::sync::Arc;

use crate::error::Error;
use crate::primitives::Mutex;

/// The CPUs that workers may be pinned to.
pub(crate) struct Pins(Mutex<Vec<Cpu>>);

struct Cpu {
    number: usize,
    workers: usize,
}

/// A worker's CPU.
pub(crate) struct Pin {
    pins: Arc<Pins>,
    at: usize,
    number: usize,
}

impl Pins {
    /// Those that this thread may run on now.
    pub(crate) fn usable() -> Result<Arc<Self>, Error> {
        let numbers = usable().ok_or(Error::Unsupported {
            what: "`pin_workers` on this platform is",
            remedy: "leave it out: the system spreads threads by itself",
        })?;
        Ok(Pins::of(numbers))
    }

    fn of(numbers: Vec<usize>) -> Arc<Self> {
        Arc::new(Pins(Mutex::new(numbers.into_iter().map(|number| Cpu { number, workers: 0 }).collect())))
    }

    /// A CPU for one more worker.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Pin> {
        let mut cpus = self.0.lock();
        let (at, cpu) = cpus.iter_mut().enumerate().min_by_key(|(_, cpu)| cpu.workers)?;
        cpu.workers += 1;
        Some(Pin { at, number: cpu.number, pins: Arc::clone(self) })
    }
}

impl Pin {
    /// Binds this thread to it, or the first thread of a process.
    #[cfg(target_os = "linux")]
    pub(crate) fn bind(&self, process: Option<u32>) {
        use rustix::process::Pid;
        use rustix::thread::{CpuSet, sched_setaffinity};
        let mut cpus = CpuSet::new();
        cpus.set(self.number);
        match process {
            None => drop(sched_setaffinity(None, &cpus)),
            Some(pid) => drop(Pid::from_raw(pid as i32).map(|pid| sched_setaffinity(Some(pid), &cpus))),
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn bind(&self, _process: Option<u32>) {
        let _ = self.number;
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.pins.0.lock()[self.at].workers -= 1;
    }
}

/// `None`: the system does not tell.
#[cfg(target_os = "linux")]
fn usable() -> Option<Vec<usize>> {
    use rustix::thread::{CpuSet, sched_getaffinity};
    let cpus = sched_getaffinity(None).ok()?;
    let numbers: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|number| cpus.is_set(*number)).collect();
    (!numbers.is_empty()).then_some(numbers)
}

#[cfg(not(target_os = "linux"))]
fn usable() -> Option<Vec<usize>> {
    None
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn workers_are_spread_evenly_also_after_some_have_left() {
        let pins = Pins::of(vec![0, 2, 3]);
        let mut taken: Vec<Pin> = (0..5).filter_map(|_| pins.take()).collect();
        let numbers = |taken: &[Pin]| taken.iter().map(|pin| pin.number).collect::<Vec<_>>();
        assert_eq!(numbers(&taken), [0, 2, 3, 0, 2]);
        taken.drain(1..3);
        taken.extend((0..2).filter_map(|_| pins.take()));
        assert_eq!(numbers(&taken), [0, 0, 2, 3, 2]);
    }
}
