//! Parsers of the engines' replies. Pure, total, and fuzzed: whatever the bytes, an answer or an error, never a panic.
//!
//! Beside the `engine` crate, this is the one place that knows the wire's own words for primary and replica.
//!
//! | reply | parser | gives |
//! |---|---|---|
//! | `CLUSTER NODES`, or a `nodes.conf` | [`parse_nodes`] | [`Rows`](crate::Rows) |
//! | `CLUSTER INFO` | [`parse_cluster_info`] | [`ClusterInfo`](crate::ClusterInfo) |
//! | `CLUSTER MYID` | [`parse_my_id`] | [`NodeId`](crate::NodeId) |
//! | `INFO` | [`parse_server_info`] | [`ServerInfo`](crate::ServerInfo) |
//! | `INFO keyspace` | [`parse_keyspace`] | keys by database |
//! | `CLUSTER SHARDS` | [`parse_shards`] | [`ShardRow`]s |
//! | `CLUSTER LINKS` | [`parse_inbound_links`] | when each node's link was made |
//! | `ROLE` | [`parse_role`] | [`RoleReply`] |
//! | a server's log | [`why_not_started`] | [`WhyNotStarted`](crate::WhyNotStarted) |
//!
//! What a later engine may add (flags, fields, keys) is passed over; what is there and makes no sense is an error.

mod bus_links;
mod cluster;
mod error;
mod info;
mod nodes;
mod reply;
mod role;
mod shards;
mod start_log;
mod text;
mod words;

pub use bus_links::parse_inbound_links;
pub use cluster::{parse_cluster_info, parse_my_id};
pub use error::{Command, Fault, WireError};
pub use info::{parse_keyspace, parse_server_info};
pub use nodes::parse_nodes;
pub use reply::Reply;
pub use role::{RoleLink, RoleReplica, RoleReply, parse_role};
pub use shards::{ShardHealth, ShardNode, ShardRow, parse_shards};
pub use start_log::why_not_started;
