//! Calls on other machines, through a message broker (AMQP 0-9-1; RabbitMQ).
#![allow(dead_code)]

mod context;
mod desk;
mod executor;
mod forwarded;
mod kit;
mod link;
mod message;
mod post;
mod settings;
mod shift;
mod worker;

pub use executor::{AmqpBuilder, AmqpExecutor};
pub use link::Tls;
pub use worker::{AmqpStopper, AmqpWorker, AmqpWorkerBuilder};
