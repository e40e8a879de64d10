//! Every program of `examples/`, run to its end, and what it prints: a file for each.
//!
//! Not here: `thumbnails` (`tests/thumbnails.rs`) and `storm`, which judges itself. How fast they are is not tested:
//! what they compare in numbers is for their reader.

#[cfg(feature = "amqp")]
#[path = "../common/broker.rs"]
mod broker;
#[cfg(feature = "amqp")]
mod cluster;
mod crash;
mod custom_executor;
mod download;
mod hashes;
mod nested;
mod pipeline;
mod primes;
mod producers;
mod progress;
mod quickstart;
mod running;
mod spinner;
mod timeouts;
#[path = "../common/watchdog.rs"]
mod watchdog;
mod web;
