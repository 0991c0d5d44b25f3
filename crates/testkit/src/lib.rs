//! Real servers for tests, and load generators that remember every acknowledged write.
//!
//! A test names the engines it wants (`redis-7.0`, `valkey-9.1`); [`each_engine!`] makes one
//! named test per engine, and an engine that is not on the machine is reported as skipped.

pub mod cluster;
pub mod engines;
mod error;
pub mod kills;
pub mod load;
pub mod namespace;
pub mod ports;
mod process;
pub mod replication;
pub mod server;
pub mod skip;
pub mod slots;
pub mod tls;
pub mod wait;

pub use cluster::Cluster;
pub use engines::{Engine, Kind, Version, engine, engines};
pub use error::{Error, TestResult};
pub use load::{Load, LoadOptions, Report};
pub use server::{Persistence, Server, ServerBuilder};
pub use wait::until;

#[doc(hidden)]
pub use tokio;
