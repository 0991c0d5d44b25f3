//! What a start of a server would find on its disk.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use shardwright_topology::wire::parse_nodes;
use shardwright_topology::{Claim, Disk, NodeId, Row, Rows, Seen, Why};

/// The name of the file in which a node keeps its table.
pub(crate) const NODES_FILE: &str = "nodes.conf";
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
        return Ok(Disk::Log);
    }
    if table.is_empty() {
        let claim = Claim::Unreadable;
        return Ok(match recorded && has_snapshot(data)? {
            true if data.join(CLEAN_MARK).try_exists()? => Disk::CleanSnapshot,
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
    let entries = match fs::read_dir(data.join("appendonlydir")) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(".manifest") && entry.metadata()?.len() > 0
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether there is a snapshot, by whatever name.
fn has_snapshot(data: &Path) -> io::Result<bool> {
    let entries = match fs::read_dir(data) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if Path::new(&name).extension().is_some_and(|ext| ext == "rdb")
            && entry.metadata()?.len() > 0
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// How much of the end of a log is read: what a server says from its start to such an end is less.
const LOG_TAIL: u64 = 16 * 1024;

/// Whether the process of this number said in its log that it can't load its table of nodes, and that table was not
/// touched since.
///
/// Redis 7.0 and Valkey up to 8.1 refuse a table in which a replica has another shard id than its primary, and write
/// such tables themselves when a node ends before everyone has heard of a new shard id.
pub(crate) fn refused_table(data: &Path, log: &Path, pid: i32) -> io::Result<bool> {
    let mut file = match fs::File::open(log) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e),
    };
    let said = file.metadata()?;
    let length = said.len();
    match fs::metadata(data.join(NODES_FILE)) {
        // Its change time, for a file that was put back keeps its old time of writing.
        Ok(table) if (table.ctime(), table.ctime_nsec()) <= (said.mtime(), said.mtime_nsec()) => {}
        Ok(_) => return Ok(false),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e),
    }
    file.seek(io::SeekFrom::Start(length.saturating_sub(LOG_TAIL)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let speaker = format!("{pid}:");
    Ok(String::from_utf8_lossy(&tail)
        .lines()
        .any(|line| line.starts_with(&speaker) && line.contains("corrupted cluster config file")))
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
        assert_eq!(found(false, true), Seen::Known(Disk::CleanSnapshot));
        fs::remove_file(data.join(CLEAN_MARK))?;
        fs::create_dir(data.join("appendonlydir"))?;
        fs::write(data.join("appendonlydir/appendonly.aof.manifest"), "file")?;
        assert_eq!(found(true, true), Seen::Known(Disk::Log));
        assert_eq!(found(false, true), stale, "the log is not loaded");
        Ok(())
    }
}
