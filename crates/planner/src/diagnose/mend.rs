//! What mends a problem, as a person reads it: a command where there is one.

use shardwright_topology::{Dissent, NodeId, Why};

use super::{ProblemKind, functions, primaries, there, writes};

impl ProblemKind {
    /// What to do about it; `target` is how the cluster is named on the command line.
    pub fn mend(&self, target: &str) -> String {
        match self {
            Self::Uncovered(_) => format!(
                "start the node that owned them; if its data is lost for good: shardwright fix {target} --accept-data-loss"
            ),
            Self::RefusesWrites { address, why, replica, .. } => {
                writes::mend(target, address, *why, *replica)
            }
            Self::CoverageUnknown { .. } => {
                "see to it that every server is heard; what keeps each from it, and what to do, is said below".to_owned()
            }
            Self::Unowned { clear: false, .. } => format!(
                "compare the keys (CLUSTER GETKEYSINSLOT at each node); shardwright fix {target} --accept-data-loss lets the node with most keys own each slot, and deletes nothing at the others"
            ),
            Self::Unowned { clear: true, .. }
            | Self::PrimaryDown { proved: true, replica: true, .. }
            | Self::OpenSlots { under_way: false, .. }
            | Self::StrayKeys { .. }
            | Self::ReplicaAstray { .. }
            | Self::CopiesElsewhere { .. }
            | Self::Islands { .. } => format!("shardwright fix {target}"),
            Self::OpenSlots { .. } => format!("wait: how far it is, shardwright status {target} shows"),
            Self::MajorityLost(lost) => lost.remedy(target),
            Self::PrimaryDown { lives: true, .. } => {
                "leave it running: mend what keeps it from being heard".to_owned()
            }
            Self::Refuses { address, bus_port, .. } => there::open_port(address, *bus_port),
            Self::Unanswered { .. } => {
                "wait: its clients are paused (CLIENT PAUSE), or a long command runs; do not start it again".to_owned()
            }
            Self::Busy { address, .. } => there::end_script(address),
            Self::PrimaryDown { replica: false, .. } => format!(
                "start it again; if its data is lost for good: shardwright fix {target} --accept-data-loss"
            ),
            Self::PrimaryDown { .. } => {
                "start it again; while most primaries are reachable, the engine fails over after cluster-node-timeout if a replica lives".to_owned()
            }
            Self::IdLost { replica, silent, .. } => id_lost(target, *replica, *silent),
            Self::Unheard { why, replaced, .. } => unheard(why, *replaced).to_owned(),
            Self::Lost { node, taken: Some(taken) } => there::let_announce(taken, target, *node),
            Self::Lost { node, taken: None } => format!("start it again, or take it out: shardwright remove-node {target} {node}"),
            Self::Disagree { dissent: Dissent::NotListed | Dissent::Address | Dissent::Role | Dissent::Slots, .. } => {
                format!("shardwright fix {target}")
            }
            Self::Contested(_) | Self::Disagree { .. } | Self::Failing { .. } | Self::StateFail(_) => {
                "wait some seconds: the nodes settle this themselves once the other problems are gone".to_owned()
            }
            Self::ReplicaLinkDown { .. } => {
                "wait while it takes its copy; if it stays, see its log (its user and password for replication, the network)".to_owned()
            }
            Self::RepeatedCopy(again) => again.remedy(),
            Self::CannotCopy { replica: (node, ..), .. } => format!(
                "start it with the engine and version of its primary, or a newer one; or take it out: shardwright remove-node {target} {node}"
            ),
            Self::StrayKeysUnknown { .. } => {
                "look again; if it stays, see whether the user may ask CLUSTER COUNTKEYSINSLOT and SELECT".to_owned()
            }
            Self::FunctionsDiffer(differ) => differ.remedy(),
            Self::FunctionsUnknown { address, why, .. } => functions::allow_list(address, why),
            Self::NoReplica { .. } => format!("shardwright add-node {target} HOST:PORT"),
            Self::UnevenReplicas { spare: (node, address), .. } => format!(
                "let one change its shard: shardwright remove-node {target} {node}, then: shardwright add-node {target} {address}"
            ),
            Self::EmptyPrimary { node } => {
                format!("give it slots, or make it leave: shardwright remove-node {target} {node}")
            }
            Self::Majority { at, replica } => primaries::mend(target, at, *replica),
            Self::SameHost(_) => "move one of them to another host".to_owned(),
            Self::HeldBack { address, .. } => there::let_elect(address),
            Self::DuplicateId(two) if two.is_one_process() => "name it by one address only".to_owned(),
            Self::DuplicateId(_) => {
                "a disk was copied: stop the process that is the copy (the younger one, unless you know better) and remove \
                 its nodes.conf before it starts again; nothing is done about this node until then".to_owned()
            }
            Self::MixedVersions(_) => "bring all nodes to one major version".to_owned(),
        }
    }
}

/// What lets a server be heard again.
fn unheard(why: &Why, replaced: bool) -> &'static str {
    match why {
        Why::Loading => "wait while it loads its data",
        Why::Denied(_) => "give other credentials: --user, --askpass",
        _ if replaced => {
            "start it: it then follows whoever has its slots by now, and drops what that one does not have; where that may be too little, keep a copy of its files first"
        }
        _ => "start it, or see why it does not answer",
    }
}

/// What brings the slots of a lost id back: its replica, or its own server with its data.
fn id_lost(target: &str, replica: Option<NodeId>, silent: Option<NodeId>) -> String {
    match (replica, silent) {
        (Some(replica), _) => format!("shardwright failover {target} {replica} --takeover"),
        (None, Some(silent)) => format!(
            "start its replica {silent} again; or, if that is gone for good: shardwright remove-node {target} {silent}, then let its own server in with its data: shardwright add-node {target} HOST:PORT; empty neither"
        ),
        (None, None) => format!(
            "do not empty the server that has its data: shardwright add-node {target} HOST:PORT takes it in with its data (a local cluster: shardwright fix {target})"
        ),
    }
}
