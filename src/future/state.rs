//! The states of a future, in one table. Data only: no memory of the user's, no lock, no waking.
//!
//! ```text
//!              start                  resolve
//!   pending ─────────▶ running ──────────────────▶ done: value, error, lent, taken
//!      │    ◀─────────
//!      │     put back (for another attempt)
//!      │ cancel
//!      └─────────────▶ cancelled
//! ```
//!
//! | state     | means                                     | who moves it on                         |
//! |-----------|-------------------------------------------|-----------------------------------------|
//! | Pending   | queued, the job is here                   | whoever starts it, `cancel`             |
//! | Sent      | queued, the job is elsewhere (encoded), or never was (a promise) | the same         |
//! | Running   | started                                   | who started it, alone                   |
//! | Value     | has a value, which can be taken           | whoever takes or borrows it             |
//! | Error     | has an error, for ever: it can be cloned  | nobody                                  |
//! | Lent      | callbacks of one thread look at the value | that thread                             |
//! | Taken     | the value was moved out, or nobody wanted it | nobody                               |
//! | Cancelled | does not run, never will                  | nobody                                  |
//!
//! Only the one who wants the *value* can tell the four shapes of done apart. A future whose call could not be
//! made is running for the moment it takes to say so.

/// One of the states, as it stands in a [`Word`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    Pending = 0,
    Sent = 1,
    Running = 2,
    Value = 3,
    Error = 4,
    Lent = 5,
    Taken = 6,
    Cancelled = 7,
}

/// A state and what else is known, in a byte that changes as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(u8);

/// What else is known.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(super) enum Flag {
    /// Somebody is to be told of the end: who ends it must look (`watch.rs`). Set under the lock that guards them.
    Heard = 1 << 3,
    /// Nobody will ask for the outcome. Set under the same lock.
    Detached = 1 << 4,
    /// Somebody was told of the outcome, so its error is not one that nobody read.
    Told = 1 << 5,
    /// Pending: it was put back, and waits for a moment, not for a worker.
    PutBack = 1 << 6,
}

impl Word {
    const STATE: u8 = 0b111;

    pub(super) const fn of(state: State) -> Word {
        Word(state as u8)
    }

    pub(super) const fn from_byte(byte: u8) -> Word {
        Word(byte)
    }

    pub(super) const fn byte(self) -> u8 {
        self.0
    }

    pub(super) fn state(self) -> State {
        const STATES: [State; 8] = [
            State::Pending,
            State::Sent,
            State::Running,
            State::Value,
            State::Error,
            State::Lent,
            State::Taken,
            State::Cancelled,
        ];
        STATES[usize::from(self.0 & Word::STATE)]
    }

    pub(super) fn is(self, flag: Flag) -> bool {
        self.0 & flag as u8 != 0
    }

    pub(super) fn with(self, flag: Flag) -> Word {
        Word(self.0 | flag as u8)
    }

    pub(super) fn without(self, flag: Flag) -> Word {
        Word(self.0 & !(flag as u8))
    }

    /// The same flags in another state.
    pub(super) fn in_state(self, state: State) -> Word {
        Word(self.0 & !Word::STATE | state as u8)
    }

    pub(super) fn phase(self) -> Phase {
        match self.state() {
            State::Pending | State::Sent => Phase::Pending,
            State::Running => Phase::Running,
            State::Value | State::Error | State::Lent | State::Taken => Phase::Done,
            State::Cancelled => Phase::Cancelled,
        }
    }

    /// Is there what somebody wants to wait for?
    pub(super) fn has(self, want: Want) -> bool {
        match self.state() {
            State::Pending | State::Sent | State::Running => false,
            State::Lent => want == Want::End,
            State::Value | State::Error | State::Taken | State::Cancelled => true,
        }
    }
}

/// What a waiter wants to wait for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// That the future is over.
    End,
    /// That its value can be taken: callbacks registered before may still be looking at it.
    Value,
}

/// What an observer sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Pending,
    Running,
    Done,
    Cancelled,
}

impl Phase {
    pub(crate) fn is_over(self) -> bool {
        matches!(self, Phase::Done | Phase::Cancelled)
    }
}

/// A worker that ends a call.
pub(crate) trait Freed {
    /// Does anybody need to know that it is as good as idle?
    fn is_wanted(&self) -> bool;
    /// It is as good as idle: no code of the user will keep it busy any more. Whoever is woken by the end and
    /// submits again finds it.
    fn free(&self);
}

/// For nobody to know.
impl Freed for () {
    fn is_wanted(&self) -> bool {
        false
    }

    fn free(&self) {}
}
