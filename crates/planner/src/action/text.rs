//! What is done and why, in words.

use std::fmt;

use shardwright_topology::NodeId;

use crate::evidence::LiveAt;

pub(super) const RETURNED: &str =
    "it lost its table of nodes; its server has its data, and is taken in under its new id";
pub(super) const TABLE_REFUSED: &str =
    "it refuses its own table of nodes, others serve every slot, and its directory is kept aside";
pub(super) const DATA_REFUSED: &str =
    "it can't load the data on its disk, others serve every slot, and its directory is kept aside";
pub(super) const NOTHING_OF_OURS: &str = "every node of ours follows one of another cluster, met by mistake, and it has only that one's data";

pub(super) fn taken(node: NodeId, by: NodeId) -> String {
    let (node, by) = (node.short(), by.short());
    format!(
        "a node of another cluster, met by mistake, took them; {by}, if it still knows {node}, then follows it, and the data of {by} is replaced"
    )
}

pub(super) fn moves(
    f: &mut fmt::Formatter<'_>,
    what: fmt::Arguments<'_>,
    from: NodeId,
    to: &LiveAt,
) -> fmt::Result {
    write!(
        f,
        "move {what} from {} to {}",
        from.short(),
        to.node().short()
    )
}

pub(super) fn tail(bytes_max: Option<u64>) -> String {
    match bytes_max {
        None => "how much of its last writes is lost is not known".to_owned(),
        Some(0) => "the replica had all that was seen".to_owned(),
        Some(bytes) => format!("up to {bytes} bytes of its last writes may be lost"),
    }
}

pub(super) fn no_copy_left(keys: u64) -> String {
    format!(
        "the primary died, and no copy of its data is known to be left: the {keys} keys of this replica take their place"
    )
}
