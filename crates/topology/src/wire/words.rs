//! The wire's own words for primary and replica, and the reading of them. They stand nowhere else.

use crate::Role;

/// Reads a role. The engines write the old words; the new ones are taken too, should an engine ever write them.
pub(super) fn role(word: &[u8]) -> Option<Role> {
    match word {
        b"master" | b"primary" => Some(Role::Primary),
        b"slave" | b"replica" => Some(Role::Replica),
        _ => None,
    }
}

/// The number of an `INFO` line that tells of a connected replica: 3 of `slave3`.
pub(super) fn replica_line(key: &[u8]) -> Option<&[u8]> {
    key.strip_prefix(b"slave")
        .filter(|n| !n.is_empty() && n.iter().all(u8::is_ascii_digit))
}

/// In `INFO`: the end of a primary's stream.
pub(super) const PRIMARY_OFFSET: &str = "master_repl_offset";
/// In `INFO`: the host that a replica copies from.
pub(super) const PRIMARY_HOST: &str = "master_host";
/// In `INFO`: the port that a replica copies from.
pub(super) const PRIMARY_PORT: &str = "master_port";
/// In `INFO`: whether a replica's link is `up` or `down`.
pub(super) const LINK_STATUS: &str = "master_link_status";
/// In `INFO`: whether a replica takes a full copy.
pub(super) const SYNCING: &str = "master_sync_in_progress";
/// In `INFO`: how far a replica has applied the stream.
pub(super) const REPLICA_OFFSET: &str = "slave_repl_offset";
/// In `INFO`: the id of the stream.
pub(super) const STREAM_ID: &str = "master_replid";
/// In `INFO`: the id of the stream that was continued at the promotion.
pub(super) const STREAM_BEFORE: &str = "master_replid2";
/// In `INFO`: the first offset that is not in the stream before; -1 if there is none.
pub(super) const STREAM_BEFORE_END: &str = "second_repl_offset";
/// In `INFO`, where `min-replicas-to-write` is set: how many replicas keep up.
pub(super) const GOOD_REPLICAS: &str = "min_slaves_good_slaves";
/// In `INFO`: for how long a replica's link is down; -1 if it never was up.
pub(super) const LINK_LOST: &str = "master_link_down_since_seconds";
