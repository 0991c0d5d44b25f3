//! What a start of a server would find on its disk.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use shardwright_topology::wire::{parse_nodes, why_not_started};
use shardwright_topology::{Claim, Disk, NodeId, Row, Rows, Seen, Why, WhyNotStarted};

/// The name of the file in which a node keeps its table.
pub(crate) const NODES_FILE: &str = "nodes.conf";
/// The directory of the append-only file, and its manifest there: the manifest of a cluster may name no others.
pub(crate) const LOG_DIR: &str = "appendonlydir";
pub(crate) const LOG_MANIFEST: &str = "appendonly.aof.manifest";
/// The RDB file, of which the same is so.
pub(crate) const SNAPSHOT: &str = "dump.rdb";
/// Written after a stop that saved everything, removed before each start.
pub(crate) const CLEAN_MARK: &str = "stopped-clean";

/// The node whose data this is, if it is not this server's: one recorded at another server, or one of another
/// cluster. Started here it would speak as that node, and lead its own cluster to this address.
///
/// `own` is the node recorded at this server, `ours` are those recorded at any. A node that the table's owner met
/// makes it ours too: it may have joined just before it was to be recorded.
pub(crate) fn stranger(
    data: &Path,
    own: Option<NodeId>,
    ours: &BTreeSet<NodeId>,
) -> io::Result<Option<NodeId>> {
    let Some(rows) = table(data)? else {
        return Ok(None);
    };
    let Some(myself) = rows.myself().filter(|m| Some(m.id) != own) else {
        return Ok(None);
    };
    let met: BTreeSet<NodeId> = rows.iter().map(|r| r.id).collect();
    // Who met nobody is a new node or, where a node lived here, may be that one: without its table it claims the slots
    // that it has keys of.
    let lone = met.len() == 1 && (own.is_some() || myself.slots.is_empty());
    let elsewhere = ours.contains(&myself.id);
    let another = !ours.is_empty() && !lone && met.is_disjoint(ours);
    Ok((elsewhere || another).then_some(myself.id))
}

/// What the table of nodes in a directory says of its own node.
pub(crate) fn own_row(data: &Path) -> io::Result<Option<Row>> {
    Ok(table(data)?.and_then(|rows| rows.myself().cloned()))
}

/// The table of nodes in a directory. One that can't be read is no proof of anything; `look` then assumes the worst.
fn table(data: &Path) -> io::Result<Option<Rows>> {
    match fs::read(data.join(NODES_FILE)) {
        Ok(table) => Ok(parse_nodes(&table).ok()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Looks at a node's data directory. `aof`: whether the server will load its append-only file. `recorded`: whether a node
/// lived there: one that has lost its table has its data still, and is not blank.
pub(crate) fn look(data: &Path, aof: bool, recorded: bool) -> Seen<Disk> {
    match inspect(data, aof, recorded) {
        Ok(disk) => Seen::Known(disk),
        Err(e) => Seen::Unknown(Why::Unreachable(format!("{}: {e}", data.display()))),
    }
}

fn inspect(data: &Path, aof: bool, recorded: bool) -> io::Result<Disk> {
    let table = match fs::read(data.join(NODES_FILE)) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(e),
    };
    if aof && has_log(data)? {
        return Ok(if recorded && table.is_empty() {
            Disk::Tableless
        } else {
            Disk::Log
        });
    }
    if table.is_empty() {
        let claim = Claim::Unreadable;
        return Ok(match recorded && has_snapshot(data)? {
            true if data.join(CLEAN_MARK).try_exists()? => Disk::Tableless,
            true => Disk::Stale { claim },
            false => Disk::Blank,
        });
    }
    if data.join(CLEAN_MARK).try_exists()? {
        return Ok(Disk::CleanSnapshot);
    }
    // A table that can't be read may say anything: then the worst is assumed.
    Ok(Disk::Stale {
        claim: Claim::read(&table),
    })
}

/// Whether there is an append-only file: since version 7 a directory with a manifest.
fn has_log(data: &Path) -> io::Result<bool> {
    for path in entries(&data.join(LOG_DIR))? {
        let is_manifest = path.extension().is_some_and(|ext| ext == "manifest");
        if is_manifest && fs::metadata(&path)?.len() > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether there is a snapshot, by whatever name.
fn has_snapshot(data: &Path) -> io::Result<bool> {
    Ok(!snapshots(data)?.is_empty())
}

/// All snapshots that are not empty, by whatever name.
fn snapshots(data: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in entries(data)? {
        if path.extension().is_some_and(|ext| ext == "rdb") && fs::metadata(&path)?.len() > 0 {
            found.push(path);
        }
    }
    Ok(found)
}

/// What is in a directory; nothing where there is none.
fn entries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Ok(entries) => entries.map(|entry| entry.map(|e| e.path())).collect(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

/// How much of the end of a log is read, in bytes: what a server says from its start to such an end is less. The report
/// of a crash, which Valkey 9.1 adds, has 8 KB of a server without data.
const LOG_TAIL: u64 = 64 * 1024;

/// What is known of why a server's last process ended before it served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum LastStart {
    /// Its log tells no reason, or it served.
    Unexplained,
    /// What it ended for has changed since: another start may succeed.
    Changed,
    /// For this, and the next would end for it too.
    Failed(WhyNotStarted),
}

/// Why the process of this number ended before it served, by its own word in its server's log, as long as what it could
/// not load was not touched since. `aof`: whether the server loads its append-only file.
///
/// Redis 7.0 and Valkey up to 8.1 refuse a table in which a replica has another shard id than its primary, and write
/// such tables themselves when a node ends before everyone has heard of a new shard id.
///
/// # Errors
/// When the log, or what is loaded, can't be read.
pub(crate) fn last_start(data: &Path, log: &Path, pid: i32, aof: bool) -> io::Result<LastStart> {
    let mut file = match fs::File::open(log) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(LastStart::Unexplained),
        Err(e) => return Err(e),
    };
    let said = file.metadata()?;
    file.seek(io::SeekFrom::Start(said.len().saturating_sub(LOG_TAIL)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let Some(why) = why_not_started(&String::from_utf8_lossy(&tail), pid) else {
        return Ok(LastStart::Unexplained);
    };
    let loaded = match &why {
        WhyNotStarted::TableRefused => vec![data.join(NODES_FILE)],
        WhyNotStarted::CorruptAof { .. } => log_files(data)?,
        // One of its own, or the base of its log.
        WhyNotStarted::RdbTooNew { .. } if has_log(data)? => {
            [snapshots(data)?, log_files(data)?].concat()
        }
        // It loads its log, and no RDB file beside it: this was a copy that came from its primary.
        WhyNotStarted::CorruptRdb { .. } if aof && has_log(data)? => {
            return Ok(LastStart::Unexplained);
        }
        WhyNotStarted::CorruptRdb { .. } | WhyNotStarted::RdbTooNew { .. } => snapshots(data)?,
        WhyNotStarted::BadConfig { .. }
        | WhyNotStarted::BadUsers { .. }
        | WhyNotStarted::NoSpace { .. }
        | WhyNotStarted::PortInUse { .. }
        | WhyNotStarted::NotPermitted { .. } => return Ok(LastStart::Failed(why)),
    };
    let mut is_there = !loaded.is_empty();
    for path in loaded {
        is_there &= is_older(&path, &said)?;
    }
    Ok(if is_there {
        LastStart::Failed(why)
    } else {
        LastStart::Changed
    })
}

/// Whether a file is there and was not touched since another was written.
fn is_older(path: &Path, written: &fs::Metadata) -> io::Result<bool> {
    match fs::metadata(path) {
        // Its change time, for a file that was put back keeps its old time of writing.
        Ok(file) => {
            Ok((file.ctime(), file.ctime_nsec()) <= (written.mtime(), written.mtime_nsec()))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// The directory of the append-only file, and all that is in it.
fn log_files(data: &Path) -> io::Result<Vec<PathBuf>> {
    let dir = data.join(LOG_DIR);
    let mut files = entries(&dir)?;
    files.push(dir);
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lost_its_table_and_has_data_is_not_blank() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let data = dir.path();
        let found = |aof, recorded| look(data, aof, recorded);
        assert_eq!(found(true, true), Seen::Known(Disk::Blank));
        fs::write(data.join("temp-1.rdb"), "")?;
        assert_eq!(found(false, true), Seen::Known(Disk::Blank));
        fs::write(data.join("dump.rdb"), "REDIS0011")?;
        let claim = Claim::Unreadable;
        let stale = Seen::Known(Disk::Stale { claim });
        assert_eq!(found(false, true), stale);
        // Where no node lived before, somebody put it there to be loaded.
        assert_eq!(found(false, false), Seen::Known(Disk::Blank));
        fs::write(data.join(NODES_FILE), "")?;
        assert_eq!(found(false, true), stale, "an empty table is none");
        fs::write(data.join(CLEAN_MARK), "")?;
        assert_eq!(found(false, true), Seen::Known(Disk::Tableless));
        fs::remove_file(data.join(CLEAN_MARK))?;
        fs::create_dir(data.join("appendonlydir"))?;
        fs::write(data.join("appendonlydir/appendonly.aof.manifest"), "file")?;
        assert_eq!(found(true, true), Seen::Known(Disk::Tableless));
        assert_eq!(found(true, false), Seen::Known(Disk::Log));
        assert_eq!(found(false, true), stale, "the log is not loaded");
        Ok(())
    }

    /// What a server of process 7 writes that ends with this message.
    fn run(said: &str) -> String {
        let line = |text: &str| format!("7:M 30 Nov 2026 11:48:50.123 # {text}\n");
        line("Redis version=7.0.15, bits=64, pid=7, just started") + &line(said)
    }

    #[test]
    fn a_failed_start_is_told_until_what_was_not_loaded_is_touched() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let (data, log) = (dir.path(), dir.path().join("server.log"));
        let told = || last_start(data, &log, 7, true);
        assert_eq!(told()?, LastStart::Unexplained, "there is no log");
        let files = data.join(LOG_DIR);
        fs::create_dir(&files)?;
        fs::write(files.join(LOG_MANIFEST), "file")?;
        fs::write(files.join("appendonly.aof.1.incr.aof"), "!!!")?;
        let said = "Bad file format reading the append only file appendonly.aof.1.incr.aof: make a";
        fs::write(&log, run(said))?;
        let file = Some("appendonly.aof.1.incr.aof".to_owned());
        let said = "Bad file format".to_owned();
        let why = WhyNotStarted::CorruptAof { file, said };
        assert_eq!(told()?, LastStart::Failed(why));
        let another = last_start(data, &log, 8, true)?;
        assert_eq!(another, LastStart::Unexplained, "another process");
        // Later than the log by more than a clock's tick, whatever the file system counts.
        let before = fs::File::options().append(true).open(&log)?;
        before.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(60))?;
        fs::write(files.join("appendonly.aof.1.incr.aof"), "repaired")?;
        assert_eq!(told()?, LastStart::Changed);
        Ok(())
    }

    #[test]
    fn a_snapshot_of_a_newer_engine_is_told_while_it_is_there() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let (data, log) = (dir.path(), dir.path().join("server.log"));
        fs::write(data.join(SNAPSHOT), "REDIS9999")?;
        let said = "Can't handle RDB format version 9999";
        fs::write(&log, run(said))?;
        let format = 9999;
        let why = WhyNotStarted::RdbTooNew { format };
        assert_eq!(last_start(data, &log, 7, false)?, LastStart::Failed(why));
        fs::remove_file(data.join(SNAPSHOT))?;
        assert_eq!(last_start(data, &log, 7, false)?, LastStart::Changed);
        Ok(())
    }

    #[test]
    fn an_rdb_file_that_is_not_loaded_is_no_reason() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let (data, log) = (dir.path(), dir.path().join("server.log"));
        fs::write(data.join(SNAPSHOT), "REDIS0011")?;
        let said = "Wrong signature trying to load DB from file";
        fs::write(&log, run(said))?;
        let said = said.to_owned();
        let failed = LastStart::Failed(WhyNotStarted::CorruptRdb { said });
        assert_eq!(last_start(data, &log, 7, true)?, failed, "there is no log");
        fs::create_dir(data.join(LOG_DIR))?;
        fs::write(data.join(LOG_DIR).join(LOG_MANIFEST), "file")?;
        assert_eq!(last_start(data, &log, 7, false)?, failed);
        assert_eq!(last_start(data, &log, 7, true)?, LastStart::Unexplained);
        Ok(())
    }
}
