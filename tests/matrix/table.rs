//! What must come of each fault at each moment. The tests compare with this table and with nothing else.
//!
//! Not here: how a fault is brought about at its moment (`actors.rs`, `scenes.rs`).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::faults_common::Death;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Fault {
    /// The mildest failure that there is at the moment, see [`Moment`].
    Error,
    Of(Death),
}

/// When it goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Moment {
    /// Before Hello. Once: the next process of the worker is healthy. Error: garbage in place of Hello. A panic
    /// has nobody to catch it there, and aborts.
    Handshake,
    /// In the argument's `Deserialize`. Error: that of the `Deserialize`.
    Decode,
    /// In the function. Error: it returns one.
    Run,
    /// In the return value's `Serialize`. Error: that of the `Serialize`.
    Encode,
    /// The task has written the beginning of a reply into the pipe by itself. Error, and panics, which do not
    /// end the worker: what the worker says of them is taken for the rest of that reply. An error completes a
    /// short reply, which then is nonsense; a panic leaves a long one incomplete, until the time is over.
    HalfReply,
    /// The worker waits for a call. Error, and panics: in another thread of it. A loop: of the thread that waits,
    /// so that it waits no more. What is looked at is the next call, which that worker is given.
    Idle,
    /// In the function, while the pool shuts down.
    ShutdownCall,
    /// In an exit handler of the worker, which was told to leave, because the pool shuts down. Error: a status
    /// that is not 0. What is looked at is the worker's last call.
    ShutdownExit,
    /// In the function, which is the last one that the worker may run.
    RecyclingCall,
    /// In an exit handler of the worker, which was told to leave, because it has run its last call.
    RecyclingExit,
    /// The thread that serves has written a part of a reply of 64 MiB. Error, and panics: in another thread of
    /// the worker, which meanwhile writes no further.
    LargeReply,
    /// The thread that serves has read a part of a call of 64 MiB, the host is writing the rest. Otherwise the same.
    LargeCall,
    /// In the function, while another worker has written a part of its reply of 64 MiB, and waits. (For a pool of one
    /// that is the worker of a second pool.)
    OtherSends,
}

/// What comes of the call that is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// It has its value, from the worker in which the fault was: nobody notices.
    Value,
    /// It has its value, from another worker: nobody notices.
    Moved,
    Raised,
    Panicked,
    /// `Decode`, of the argument.
    Undecodable,
    /// `Encode`, of the return value.
    Unencodable,
    /// `Decode`, of the reply: it was none. The worker is replaced.
    Nonsense,
    /// `WorkerDied`. The worker is replaced.
    Died,
    /// `TimedOut`. The worker is replaced.
    TimedOut,
}

impl Expected {
    /// Its worker goes on to the next call, if there is to be one.
    pub(crate) fn spares_the_worker(self) -> bool {
        use Expected::{Panicked, Raised, Undecodable, Unencodable, Value};
        matches!(self, Value | Raised | Panicked | Undecodable | Unencodable)
    }
}

type Row = (Fault, [Expected; 13]);

#[rustfmt::skip]
const TABLE: [Row; 12] = {
    use Death::*;
    use Expected::{
        Died as DEATH, Moved as moved, Nonsense as NOISE, Panicked as PANIC, Raised as RAISE, TimedOut as LIMIT,
        Undecodable as DECOD, Unencodable as ENCOD, Value as value,
    };
    use Fault::{Error, Of};
    [
        // The moments, in the order of `Moment::ALL`:
        //                  hand-                       half          shutdown      recycling     reply  host   other
        //                  shake  decode run    encode reply  idle   call   exit   call   exit   64 MiB sends  sends
        (Error,             [moved, DECOD, RAISE, ENCOD, NOISE, value, RAISE, value, RAISE, value, value, value, RAISE]),
        (Of(Panic),         [moved, PANIC, PANIC, PANIC, LIMIT, value, PANIC, value, PANIC, value, value, value, PANIC]),
        (Of(PanicWithBomb), [moved, PANIC, PANIC, PANIC, LIMIT, moved, PANIC, value, PANIC, value, DEATH, moved, PANIC]),
        (Of(ExitZero),      [moved, DEATH, DEATH, DEATH, DEATH, moved, DEATH, value, DEATH, value, DEATH, moved, DEATH]),
        (Of(ExitThree),     [moved, DEATH, DEATH, DEATH, DEATH, moved, DEATH, value, DEATH, value, DEATH, moved, DEATH]),
        (Of(Abort),         [moved, DEATH, DEATH, DEATH, DEATH, moved, DEATH, value, DEATH, value, DEATH, moved, DEATH]),
        (Of(BadWrite),      [moved, DEATH, DEATH, DEATH, DEATH, moved, DEATH, value, DEATH, value, DEATH, moved, DEATH]),
        (Of(Kill),          [moved, DEATH, DEATH, DEATH, DEATH, moved, DEATH, value, DEATH, value, DEATH, moved, DEATH]),
        (Of(StackOverflow), [moved, DEATH, DEATH, DEATH, DEATH, moved, DEATH, value, DEATH, value, DEATH, moved, DEATH]),
        (Of(OutOfMemory),   [moved, DEATH, DEATH, DEATH, DEATH, moved, DEATH, value, DEATH, value, DEATH, moved, DEATH]),
        (Of(Loop),          [moved, LIMIT, LIMIT, LIMIT, LIMIT, moved, LIMIT, value, LIMIT, value, LIMIT, moved, LIMIT]),
        (Of(Stop),          [moved, LIMIT, LIMIT, LIMIT, LIMIT, moved, LIMIT, value, LIMIT, value, LIMIT, moved, LIMIT]),
    ]
};

impl Fault {
    pub(crate) fn all() -> impl Iterator<Item = Fault> {
        TABLE.into_iter().map(|(fault, _)| fault)
    }

    /// It does what it is called. The error is the mild one.
    pub(crate) fn strike(self) -> Result<(), String> {
        match self {
            Fault::Error => Err("a mild failure".into()),
            Fault::Of(death) => death.die(),
        }
    }

    /// It costs the thread that it is in, and not the process.
    pub(crate) fn is_of_a_thread(self) -> bool {
        matches!(self, Fault::Error | Fault::Of(Death::Panic | Death::PanicWithBomb))
    }

    /// It goes on until somebody ends it.
    pub(crate) fn needs_limit(self) -> bool {
        matches!(self, Fault::Of(death) if death.needs_limit())
    }
}

/// What variables of the environment carry.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Error => f.write_str("Error"),
            Fault::Of(death) => write!(f, "{death:?}"),
        }
    }
}

impl Moment {
    const ALL: [Moment; 13] = [
        Moment::Handshake,
        Moment::Decode,
        Moment::Run,
        Moment::Encode,
        Moment::HalfReply,
        Moment::Idle,
        Moment::ShutdownCall,
        Moment::ShutdownExit,
        Moment::RecyclingCall,
        Moment::RecyclingExit,
        Moment::LargeReply,
        Moment::LargeCall,
        Moment::OtherSends,
    ];

    pub(crate) fn is_in_the_function(self) -> bool {
        use Moment::{OtherSends, RecyclingCall, Run, ShutdownCall};
        matches!(self, Run | ShutdownCall | RecyclingCall | OtherSends)
    }

    /// The pool is there for more, and gives its workers more than one call.
    pub(crate) fn keeps_workers(self) -> bool {
        use Moment::{RecyclingCall, RecyclingExit, ShutdownCall, ShutdownExit};
        !matches!(self, ShutdownCall | ShutdownExit | RecyclingCall | RecyclingExit)
    }
}

pub(crate) fn expected(fault: Fault, moment: Moment) -> Expected {
    let (_, row) = TABLE.into_iter().find(|(of, _)| *of == fault).expect("a row for each fault");
    let column = Moment::ALL.iter().position(|of| *of == moment).expect("a column for each moment");
    row[column]
}
