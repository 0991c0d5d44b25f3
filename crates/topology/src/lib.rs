//! The vocabulary of a sharded cluster, and the merge of every node's view into one observation.
//!
//! This crate holds no decisions and does no input or output. It has no clock, no environment and
//! no logging; every map is ordered, so that the same input gives the same bytes.
//!
//! * [`Slot`], [`SlotRange`], [`SlotSet`], [`NodeId`], [`ShardId`], [`ConfigEpoch`], [`Role`]: the words.
//! * [`Row`] and [`NodeView`]: what one node says of itself and of the others.
//! * [`Server`]: one server process as its runtime knows it: where, how, dead or alive.
//! * [`DuplicateId`]: two processes that answer as one node.
//! * [`Observed`]: all of these merged; it keeps who believes what.
//! * [`wire`]: parsers of the engines' replies; they never panic, whatever the bytes.

mod address;
mod duplicate;
mod find;
mod functions;
mod id;
mod memory;
mod observed;
mod owners;
mod place;
mod seen;
mod server;
mod slot;
mod start_failure;
mod unowned;
mod view;
pub mod wire;

pub use address::{Address, Host};
pub use duplicate::{DuplicateId, Instance};
pub use find::{FindError, find_node};
pub use functions::{CodeDigest, FunctionLibraries};
pub use id::{ConfigEpoch, InvalidNodeId, NodeId, ShardId};
pub use memory::{AtLimit, SizedBy, SlotSize};
pub use observed::{Disagreement, Dissent, Member, Observed, Source};
pub use place::{Place, Tied};
pub use seen::{Seen, Why};
pub use server::{
    Attempt, AttemptKind, Claim, Death, DeathProof, Disk, Formed, OutdatedStart, Process, Server,
    ServerName, Starter, Starts, Timestamp,
};
pub use slot::{InvalidSlot, SLOT_COUNT, ShownSlots, Slot, SlotRange, SlotSet};
pub use start_failure::{ConfigLine, StartFailure, WhyNotStarted};
pub use unowned::unowned;
pub use view::{
    ClusterInfo, EngineKind, Flags, FullCopies, Health, NoWrites, NodeView, OpenSlot, ReplicaLink,
    Replication, Role, Row, Rows, ServerInfo, Stream, Version, reads,
};
