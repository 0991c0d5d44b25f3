//! What the disk says of a start: a pure judgement of what was found.

use std::fmt;
use std::time::SystemTime;

use crate::nodes_conf::{Role, myself};

/// The file of the node's table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Table {
    /// There is none.
    #[default]
    Missing,
    /// It is there and the disk does not give it away.
    Unreadable,
    /// Its bytes.
    Bytes(Vec<u8>),
}

/// What was found in the data directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// `nodes.conf`.
    pub table: Table,
    /// The configuration says `appendonly yes`.
    pub append_only: bool,
    /// There is an append-only file: a manifest that is not empty.
    pub log: bool,
    /// When the mark of a stop was written.
    pub stop_marked: Option<SystemTime>,
    /// When the snapshot was finished.
    pub snapshot: Option<SystemTime>,
    /// When the youngest unfinished snapshot was last written to.
    pub unfinished_snapshot: Option<SystemTime>,
}

/// What a start would find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disk {
    /// No table, or an empty one: a new node.
    Blank,
    /// The append-only file will be loaded.
    Log,
    /// A snapshot of a stop that was asked for.
    Clean,
    /// The node was a primary with slots, or may have been one, and its last writes are not here.
    StalePrimary {
        /// Its own line of the table, where that could be read: who it was, and what it would claim.
        own: Option<String>,
    },
    /// The node was a replica, or a primary without slots: nothing is lost by its start.
    StaleReplica,
}

impl Disk {
    /// Whether a start has to wait for a release.
    #[must_use]
    pub fn is_held(&self) -> bool {
        matches!(self, Self::StalePrimary { .. })
    }
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blank => f.write_str("blank"),
            Self::Log => f.write_str("log"),
            Self::Clean => f.write_str("clean"),
            Self::StalePrimary { own: Some(own) } => write!(f, "stale-primary {own}"),
            Self::StalePrimary { own: None } => f.write_str("stale-primary unknown"),
            Self::StaleReplica => f.write_str("stale-replica"),
        }
    }
}

/// Judges what was found. In doubt it is held: a person can release it, nobody can undo an emptied shard.
#[must_use]
pub fn judge(found: &Found) -> Disk {
    let table: &[u8] = match &found.table {
        Table::Missing => return Disk::Blank,
        Table::Bytes(bytes) if bytes.is_empty() => return Disk::Blank,
        Table::Bytes(bytes) => bytes,
        // No table can be made of it either.
        Table::Unreadable => b"",
    };
    if found.append_only && found.log {
        return Disk::Log;
    }
    if is_clean(found) {
        return Disk::Clean;
    }
    match std::str::from_utf8(table).ok().and_then(myself) {
        Some(own) if own.role == Role::Replica || !own.has_slots => Disk::StaleReplica,
        own => Disk::StalePrimary {
            own: own.map(|own| own.line),
        },
    }
}

/// The snapshot was finished after the stop was asked for. One of the same moment may be an earlier one: the hook
/// returns only when the file system's clock has moved on.
///
/// A server with `appendonly yes` and no append-only file starts empty, whatever its snapshot holds. One that was
/// killed while it saved leaves an unfinished snapshot younger than the finished one.
fn is_clean(found: &Found) -> bool {
    match (found.stop_marked, found.snapshot) {
        (Some(marked), Some(saved)) => {
            !found.append_only
                && saved > marked
                && found.unfinished_snapshot.is_none_or(|cut| cut <= saved)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire_words::{PRIMARY, REPLICA};
    use std::time::Duration;

    const ID: &str = "07c37dfeb235213a872192d90877d0cd55635b91";

    fn line(flags: &str, slots: &str) -> String {
        format!("{ID} :6379@16379 myself,{flags} - 0 0 1 connected {slots}")
    }

    fn table(flags: &str, slots: &str) -> Table {
        let line = line(flags, slots) + "\nvars currentEpoch 1\n";
        Table::Bytes(line.into_bytes())
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn primary() -> Found {
        Found {
            table: table(PRIMARY, "0-5460"),
            ..Found::default()
        }
    }

    fn held() -> Disk {
        Disk::StalePrimary {
            own: Some(line(PRIMARY, "0-5460")),
        }
    }

    #[test]
    fn only_a_stale_primary_with_slots_is_held() {
        assert_eq!(judge(&Found::default()), Disk::Blank);
        let mut found = primary();
        assert_eq!(judge(&found), held());
        assert!(held().is_held());
        found.table = Table::Bytes(vec![]);
        assert_eq!(judge(&found), Disk::Blank);
        found.table = table(PRIMARY, "");
        assert_eq!(judge(&found), Disk::StaleReplica);
        found.table = table(REPLICA, "");
        assert_eq!(judge(&found), Disk::StaleReplica);
        for disk in [Disk::Blank, Disk::Log, Disk::Clean, Disk::StaleReplica] {
            assert!(!disk.is_held(), "{disk}");
        }
    }

    #[test]
    fn a_table_that_cannot_be_read_is_taken_for_a_primarys() {
        for bytes in [&b"\0\0\0\0"[..], b"\xff\xfe", b"half a li"] {
            let mut found = primary();
            found.table = Table::Bytes(bytes.to_vec());
            assert_eq!(judge(&found), Disk::StalePrimary { own: None });
        }
        let mut found = primary();
        found.table = Table::Unreadable;
        assert_eq!(judge(&found), Disk::StalePrimary { own: None });
    }

    #[test]
    fn a_log_counts_only_if_it_will_be_loaded() {
        let mut found = primary();
        found.log = true;
        assert_eq!(judge(&found), held(), "the configuration says no");
        found.append_only = true;
        assert_eq!(judge(&found), Disk::Log);
        found.log = false;
        assert_eq!(judge(&found), held(), "there is none");
    }

    #[test]
    fn a_snapshot_counts_only_if_it_is_of_the_stop() {
        let mut found = primary();
        found.snapshot = Some(at(10));
        assert_eq!(judge(&found), held(), "nobody asked for a stop");
        found.stop_marked = Some(at(10));
        assert_eq!(judge(&found), held(), "it may have been there before");
        found.stop_marked = Some(at(11));
        assert_eq!(judge(&found), held(), "the snapshot is older than the stop");
        found.snapshot = Some(at(12));
        assert_eq!(judge(&found), Disk::Clean);
        found.append_only = true;
        assert_eq!(judge(&found), held(), "the snapshot will not be loaded");
        found.append_only = false;
        found.unfinished_snapshot = Some(at(13));
        assert_eq!(judge(&found), held(), "killed while it saved");
        found.unfinished_snapshot = Some(at(9));
        assert_eq!(judge(&found), Disk::Clean, "that was another time");
        found.snapshot = None;
        assert_eq!(judge(&found), held(), "there is no snapshot");
    }

    #[test]
    fn it_is_told_in_one_word_and_the_own_line() {
        let own = line(PRIMARY, "0-5460");
        assert_eq!(held().to_string(), format!("stale-primary {own}"));
        let unknown = Disk::StalePrimary { own: None };
        assert_eq!(unknown.to_string(), "stale-primary unknown");
        assert_eq!(Disk::StaleReplica.to_string(), "stale-replica");
    }
}
