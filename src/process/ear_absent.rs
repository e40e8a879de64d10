//! Stands for `ear.rs` in a build without the feature `tracing`: nobody listens to what calls log in a worker process.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::lanes::Lanes;
use super::slot::Slot;

pub(super) struct Listener;

impl Listener {
    pub(super) fn of_this_thread() -> Self {
        Listener
    }
}

pub(super) struct Ear;

impl Ear {
    pub(super) fn open(_: &Listener, _: &str, _: u32, _: &Arc<Slot>) -> (Self, Option<OwnedFd>) {
        (Ear, None)
    }

    pub(super) fn is_behind(&self, _: u64) -> bool {
        false
    }

    pub(super) fn catch_up(&self) {}
}

pub(super) fn speak(_: OwnedFd, _: Option<Arc<Lanes>>) {}
