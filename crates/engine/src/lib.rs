//! Talks to one Redis or Valkey server: typed administration commands and a capability probe.
//!
//! * [`Client`]: one held connection. Every call has a time limit, and [`Client::closed`] tells
//!   of a close at once, without sending anything.
//! * [`probe`]: is anything listening there? Tells *refused* (a fact) from *timed out* (unknown).
//! * [`movers`]: slots go from one primary to another with their keys.
//! * [`Error`]: what went wrong, at which address, with which command, and what to do next.
//!
//! The wire's own words for primary and replica stay inside this crate.

mod access;
mod capabilities;
mod client;
mod close;
mod commands;
mod dial;
mod endpoint;
mod error;
mod functions;
mod import;
mod keys;
mod migrations;
pub mod movers;
mod observe;
mod refusal;
mod settings;
mod slot_loads;
mod socket;
mod tls;

pub use access::{Access, Alternative, Credentials, Secret, Timeouts};
pub use capabilities::{Capabilities, Engine, Feature};
pub use client::Client;
pub use close::Close;
pub use commands::{ACL_RULES, Failover, Reset, Save, SetSlot};
pub use dial::{Dial, Dialled, Dialling, Stream};
pub use endpoint::{Endpoint, InvalidEndpoint};
pub use error::{Error, Retry, Unreachable};
pub use functions::FunctionLibrary;
pub use import::Keyspace;
pub use keys::{Migrate, Migrated};
pub use migrations::{MigrationState, SlotMigration, Way};
pub use observe::{DatabaseSizes, RawView};
pub use refusal::{COMMANDS, Meaning, Purpose, Refusal, meaning, purpose};
pub use socket::probe;
pub use tls::{Tls, TlsError, TlsOptions};
