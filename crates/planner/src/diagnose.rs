//! What is wrong with a cluster, for people: each problem explained, with the command that mends it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use shardwright_topology::{
    Dissent, EngineKind, Health, NodeId, Observed, OpenSlot, Process, Replication, Role, Seen,
    ServerName, Slot, SlotSet, Source, Version, Why,
};

use crate::evidence::Dead;
use crate::{Severity, Unspread};

/// One problem.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Problem {
    /// `Fatal`: the cluster is not healthy. `Note`: it is, but it could be better.
    pub severity: Severity,
    /// What it is.
    pub kind: ProblemKind,
}

/// What can be wrong.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ProblemKind {
    /// Slots without an owner.
    Uncovered(SlotSet),
    /// Slots that two nodes claim.
    Contested(SlotSet),
    /// A primary with slots that is dead (`true`: proved) or silent.
    PrimaryDown {
        /// Which.
        node: NodeId,
        /// Its slots.
        slots: SlotSet,
        /// Whether its death is proved.
        proved: bool,
        /// Whether a replica lives that could take over.
        replica: bool,
    },
    /// A server that was not heard.
    Unheard {
        /// Which.
        server: ServerName,
        /// Why.
        why: Why,
    },
    /// A node that others list, without a known server.
    Lost {
        /// Which.
        node: NodeId,
    },
    /// Nodes with different views.
    Disagree {
        /// In what.
        dissent: Dissent,
        /// Whose views.
        speakers: BTreeSet<NodeId>,
        /// About whom.
        about: BTreeSet<NodeId>,
    },
    /// A slot that is half moved.
    OpenSlot {
        /// Which.
        slot: Slot,
        /// Who shows it open.
        node: NodeId,
    },
    /// A primary holds keys of slots that it does not own: nobody reaches them there.
    StrayKeys {
        /// Which.
        node: NodeId,
        /// How many, of all databases.
        keys: u64,
        /// Of which slots.
        slots: SlotSet,
        /// The owners of those slots.
        owners: BTreeSet<NodeId>,
    },
    /// It could not be counted whether a primary holds keys of slots that it does not own.
    StrayKeysUnknown {
        /// Which.
        node: NodeId,
        /// Why.
        why: Why,
    },
    /// A node does not serve.
    StateFail(BTreeSet<NodeId>),
    /// A replica without its copy or link.
    ReplicaLinkDown {
        /// Which.
        node: NodeId,
    },
    /// A replica that follows a node without slots.
    ReplicaAstray {
        /// Which.
        node: NodeId,
    },
    /// A shard without a live replica, though others have one.
    NoReplica {
        /// Its primary.
        primary: NodeId,
    },
    /// A primary without slots.
    EmptyPrimary {
        /// Which.
        node: NodeId,
    },
    /// A replica on its primary's host though they have several hosts.
    SameHost(Unspread),
    /// Nodes hold each other to be failing.
    Failing {
        /// Who.
        about: NodeId,
        /// In how many views.
        by: usize,
    },
    /// Several groups that do not know one another.
    Islands {
        /// How large each is.
        sizes: Vec<usize>,
    },
    /// Two servers with one id.
    Twins {
        /// One.
        first: ServerName,
        /// The other.
        second: ServerName,
    },
    /// Several major versions or engines.
    MixedVersions(BTreeSet<(EngineKind, Version)>),
}

impl ProblemKind {
    /// What to do about it; `target` is how the cluster is named on the command line.
    pub fn mend(&self, target: &str) -> String {
        match self {
            Self::Uncovered(_) => format!(
                "start the node that owned them; if its data is lost for good: shardwright fix {target} --accept-data-loss"
            ),
            Self::PrimaryDown { proved: true, replica: true, .. }
            | Self::OpenSlot { .. }
            | Self::StrayKeys { .. }
            | Self::ReplicaAstray { .. }
            | Self::Islands { .. } => format!("shardwright fix {target}"),
            Self::PrimaryDown { .. } => {
                "start it again, or let the engine fail over (after cluster-node-timeout) if a replica lives".to_owned()
            }
            Self::Unheard { why: Why::Denied(_), .. } => "give other credentials: --user, --askpass".to_owned(),
            Self::Unheard { .. } => "start it, or see why it does not answer".to_owned(),
            Self::Lost { node } => format!("start it again, or take it out: shardwright remove-node {target} {node}"),
            Self::Disagree { dissent: Dissent::NotListed | Dissent::Address | Dissent::Role | Dissent::Slots, .. } => {
                format!("shardwright fix {target}")
            }
            Self::Contested(_) | Self::Disagree { .. } | Self::Failing { .. } | Self::StateFail(_) => {
                "wait some seconds: the nodes settle this themselves once the other problems are gone".to_owned()
            }
            Self::ReplicaLinkDown { .. } => {
                "wait while it takes its copy; if it stays, see its log (its user and password for replication, the network)".to_owned()
            }
            Self::StrayKeysUnknown { .. } => {
                "look again; if it stays, see whether the user may ask CLUSTER COUNTKEYSINSLOT and SELECT".to_owned()
            }
            Self::NoReplica { .. } => format!("shardwright add-node {target} HOST:PORT"),
            Self::EmptyPrimary { node } => {
                format!("give it slots, or make it leave: shardwright remove-node {target} {node}")
            }
            Self::SameHost(_) => "move one of them to another host".to_owned(),
            Self::Twins { .. } => "stop one of them and empty its directory: nodes.conf was copied".to_owned(),
            Self::MixedVersions(_) => "bring all nodes to one major version".to_owned(),
        }
    }
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uncovered(slots) => write!(f, "{} slots have no owner: {slots}", slots.count()),
            Self::Contested(slots) => write!(f, "two nodes claim slots {slots}"),
            Self::PrimaryDown {
                node,
                slots,
                proved,
                ..
            } => {
                let how = if *proved { "dead" } else { "silent" };
                write!(f, "primary {} of slots {slots} is {how}", node.short())
            }
            Self::Unheard { server, why } => write!(f, "{server} is not heard: {why}"),
            Self::Lost { node } => write!(
                f,
                "node {} is listed, but it is not known where it lives",
                node.short()
            ),
            Self::Disagree {
                dissent,
                speakers,
                about,
            } => {
                let what = match dissent {
                    Dissent::NotListed => "do not know",
                    Dissent::Handshake => "are still greeting",
                    Dissent::Address => "have a wrong address of",
                    Dissent::Role => "believe another role of",
                    Dissent::Slots => "believe other slots of",
                    Dissent::Health => "hold to have failed, though it lives:",
                    Dissent::Link => "have no bus link to",
                };
                write!(f, "{} {what} {}", list(speakers), list(about))
            }
            Self::OpenSlot { slot, node } => write!(f, "slot {slot} is open at {}", node.short()),
            Self::StrayKeys {
                node,
                keys,
                slots,
                owners,
            } => write!(
                f,
                "{} holds {keys} key(s) of slots {slots}, which it does not own: nobody reaches them there (owned by {})",
                node.short(),
                list(owners)
            ),
            Self::StrayKeysUnknown { node, why } => write!(
                f,
                "it is not known whether {} holds keys of slots that it does not own: {why}",
                node.short()
            ),
            Self::StateFail(nodes) => write!(f, "cluster_state is fail at {}", list(nodes)),
            Self::ReplicaLinkDown { node } => write!(
                f,
                "replica {} has no copy or no link to its primary",
                node.short()
            ),
            Self::ReplicaAstray { node } => write!(
                f,
                "replica {} follows a node that owns no slots",
                node.short()
            ),
            Self::NoReplica { primary } => {
                write!(f, "primary {} has no live replica", primary.short())
            }
            Self::EmptyPrimary { node } => write!(f, "primary {} owns no slots", node.short()),
            Self::SameHost(u) => {
                write!(
                    f,
                    "replica {} is on the host of its primary {} ({})",
                    u.replica.short(),
                    u.primary.short(),
                    u.host
                )
            }
            Self::Failing { about, by } => {
                write!(f, "{by} node(s) hold {} to be failing", about.short())
            }
            Self::Islands { sizes } => write!(
                f,
                "the nodes are in {} groups that do not know one another",
                sizes.len()
            ),
            Self::Twins { first, second } => write!(f, "{first} and {second} have one node id"),
            Self::MixedVersions(versions) => {
                let names: Vec<String> = versions.iter().map(|(e, v)| format!("{e} {v}")).collect();
                write!(f, "several major versions: {}", names.join(", "))
            }
        }
    }
}

fn list(nodes: &BTreeSet<NodeId>) -> String {
    let names: Vec<String> = nodes.iter().take(6).map(NodeId::short).collect();
    let more = nodes.len().saturating_sub(6);
    if more > 0 {
        format!("{} and {more} more", names.join(", "))
    } else {
        names.join(", ")
    }
}

/// Everything that is wrong with a cluster, the worst first.
pub fn diagnose(o: &Observed) -> Vec<Problem> {
    let mut found = BTreeSet::new();
    slots(o, &mut found);
    silence(o, &mut found);
    views(o, &mut found);
    shards(o, &mut found);
    let mut out: Vec<Problem> = found.into_iter().collect();
    out.sort_by(|a, b| {
        b.severity
            .cmp(&a.severity)
            .then_with(|| a.kind.cmp(&b.kind))
    });
    out
}

type Found = BTreeSet<Problem>;

fn add(found: &mut Found, severity: Severity, kind: ProblemKind) {
    found.insert(Problem { severity, kind });
}

fn slots(o: &Observed, found: &mut Found) {
    let uncovered = o.uncovered();
    if !uncovered.is_empty() {
        add(found, Severity::Fatal, ProblemKind::Uncovered(uncovered));
    }
    if !o.contested().is_empty() {
        add(
            found,
            Severity::Fatal,
            ProblemKind::Contested(o.contested().clone()),
        );
    }
    for (_, view) in o.views() {
        for end in view.open_slots() {
            let (OpenSlot::Migrating { slot, .. } | OpenSlot::Importing { slot, .. }) = *end;
            add(
                found,
                Severity::Fatal,
                ProblemKind::OpenSlot {
                    slot,
                    node: view.id,
                },
            );
        }
    }
    stray_keys(o, found);
    let down: BTreeSet<NodeId> = o
        .views()
        .filter(|(_, v)| !v.cluster.state_ok)
        .map(|(_, v)| v.id)
        .collect();
    if !down.is_empty() {
        add(found, Severity::Fatal, ProblemKind::StateFail(down));
    }
}

/// Keys of slots that are open are told of there.
fn stray_keys(o: &Observed, found: &mut Found) {
    let open: SlotSet = o
        .views()
        .flat_map(|(_, v)| v.open_slots().iter().map(|end| end.slot()))
        .collect();
    for (_, view) in o.views() {
        let node = view.id;
        match &view.stray_keys {
            Seen::Known(strays) => {
                let strays = strays.iter().filter(|(slot, _)| !open.contains(**slot));
                let slots: SlotSet = strays.clone().map(|(slot, _)| *slot).collect();
                let owners = slots.slots().filter_map(|slot| o.owner(slot)).collect();
                let keys = strays.map(|(_, n)| *n).sum();
                if !slots.is_empty() {
                    let kind = ProblemKind::StrayKeys {
                        node,
                        keys,
                        slots,
                        owners,
                    };
                    add(found, Severity::Fatal, kind);
                }
            }
            Seen::Unknown(why) => {
                let primary = view.own().is_some_and(|own| own.role == Role::Primary);
                if primary {
                    let why = why.clone();
                    let kind = ProblemKind::StrayKeysUnknown { node, why };
                    add(found, Severity::Note, kind);
                }
            }
        }
    }
}

fn silence(o: &Observed, found: &mut Found) {
    for server in o.servers().values() {
        if let Seen::Unknown(why) = &server.view {
            add(
                found,
                Severity::Fatal,
                ProblemKind::Unheard {
                    server: server.name.clone(),
                    why: why.clone(),
                },
            );
        }
    }
    for (_, first, second) in o.twins() {
        add(
            found,
            Severity::Fatal,
            ProblemKind::Twins {
                first: first.clone(),
                second: second.clone(),
            },
        );
    }
    for m in o.members().values().filter(|m| m.source == Source::Others) {
        if m.role == Role::Primary && !m.slots.is_empty() {
            let proved = Dead::prove(o, m.id).is_some();
            let replica = o.replicas_of(m.id).any(|r| r.source == Source::Itself);
            let kind = ProblemKind::PrimaryDown {
                node: m.id,
                slots: m.slots.clone(),
                proved,
                replica,
            };
            add(found, Severity::Fatal, kind);
        }
        if m.server.is_none() {
            add(found, Severity::Fatal, ProblemKind::Lost { node: m.id });
        }
    }
}

fn views(o: &Observed, found: &mut Found) {
    let mut by_kind: BTreeMap<Dissent, (BTreeSet<NodeId>, BTreeSet<NodeId>)> = BTreeMap::new();
    for g in o.disagreements() {
        let (speakers, about) = by_kind.entry(g.dissent).or_default();
        speakers.insert(g.speaker);
        about.insert(g.about);
    }
    for (dissent, (speakers, about)) in by_kind {
        add(
            found,
            Severity::Fatal,
            ProblemKind::Disagree {
                dissent,
                speakers,
                about,
            },
        );
    }
    let islands = o.islands();
    if islands.len() > 1 {
        let sizes = islands.iter().map(BTreeSet::len).collect();
        add(found, Severity::Fatal, ProblemKind::Islands { sizes });
    }
    let mut suspected: BTreeMap<NodeId, usize> = BTreeMap::new();
    for (_, view) in o.views() {
        for row in view.peers().filter(|r| r.health != Health::Fine) {
            *suspected.entry(row.id).or_default() += 1;
        }
    }
    for (about, by) in suspected {
        add(found, Severity::Fatal, ProblemKind::Failing { about, by });
    }
    let versions: BTreeSet<(EngineKind, Version)> = o
        .views()
        .map(|(_, v)| (v.server.engine, v.server.version))
        .collect();
    let majors: BTreeSet<(EngineKind, u16)> = versions.iter().map(|(e, v)| (*e, v.major)).collect();
    if majors.len() > 1 {
        add(found, Severity::Note, ProblemKind::MixedVersions(versions));
    }
}

fn shards(o: &Observed, found: &mut Found) {
    let live = |id: NodeId| {
        o.server_of(id)
            .is_some_and(|s| matches!(s.process, Process::Running | Process::Unknown))
    };
    let hosts: BTreeSet<&String> = o
        .servers()
        .values()
        .filter_map(|s| s.place.host.as_ref())
        .collect();
    for m in o.members().values() {
        match m.role {
            Role::Primary if m.slots.is_empty() && m.source == Source::Itself => {
                add(
                    found,
                    Severity::Note,
                    ProblemKind::EmptyPrimary { node: m.id },
                );
            }
            Role::Primary if m.slots.is_empty() => {}
            Role::Primary => {
                let any = o
                    .replicas_of(m.id)
                    .any(|r| r.source == Source::Itself && live(r.id));
                let others = o.members().values().any(|r| r.role == Role::Replica);
                if !any && others {
                    add(
                        found,
                        Severity::Note,
                        ProblemKind::NoReplica { primary: m.id },
                    );
                }
            }
            Role::Replica => replica(o, m, &hosts, found),
        }
    }
}

fn replica(
    o: &Observed,
    m: &shardwright_topology::Member,
    hosts: &BTreeSet<&String>,
    found: &mut Found,
) {
    let primary = m.primary.and_then(|id| o.member(id));
    // A live primary without slots may be about to get some, with its replicas ready: that is told of the primary.
    let waits =
        |p: &shardwright_topology::Member| p.role == Role::Primary && p.source == Source::Itself;
    if primary.is_none_or(|p| p.slots.is_empty() && !waits(p)) {
        add(
            found,
            Severity::Fatal,
            ProblemKind::ReplicaAstray { node: m.id },
        );
    }
    let up = o.view_of(m.id).map(|v| {
        matches!(
            v.server.replication,
            Replication::Replica { link_up: true, .. }
        )
    });
    if up == Some(false) {
        add(
            found,
            Severity::Fatal,
            ProblemKind::ReplicaLinkDown { node: m.id },
        );
    }
    let (Some(at), Some(from)) = (o.server_of(m.id), primary.and_then(|p| o.server_of(p.id)))
    else {
        return;
    };
    if hosts.len() > 1
        && at.place.same_host(&from.place)
        && let (Some(host), Some(primary)) = (at.place.host.clone(), m.primary)
    {
        let unspread = Unspread {
            replica: m.id,
            primary,
            host,
        };
        add(found, Severity::Note, ProblemKind::SameHost(unspread));
    }
}
