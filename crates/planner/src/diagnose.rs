//! What is wrong with a cluster, for people: each problem explained, with the command that mends it.

use std::collections::{BTreeMap, BTreeSet};

use shardwright_topology::{
    Address, Dissent, DuplicateId, EngineKind, Health, NoWrites, NodeId, Observed, Process, Role,
    Seen, ServerName, SlotSet, Source, Version, Why,
};

mod functions;
mod keys;
mod mend;
mod open_slots;
mod primaries;
mod text;
mod there;
mod writes;

use crate::evidence::{Dead, copies_elsewhere, in_sync};
use crate::returned::has_lost_id;
use crate::rules::electable::never_elects;
use crate::rules::promote::candidate;
use crate::{Desired, LostMajority, PrimariesAt, RepeatedCopy, Severity, Unspread};
pub use functions::FunctionsDiffer;
pub use open_slots::{slots_are_moving, while_slots_move};
pub use there::Taken;
pub(crate) use writes::no_writes;
pub use writes::take_writes_again;

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
    /// Slots of which nobody who was heard knows an owner, while others were not heard.
    CoverageUnknown {
        /// Which.
        slots: SlotSet,
        /// How many servers were not heard, of how many.
        not_heard: (usize, usize),
    },
    /// Slots without an owner, of which it is known who holds keys.
    Unowned {
        /// Which.
        slots: SlotSet,
        /// Who holds keys of them, replicas included.
        nodes: BTreeSet<NodeId>,
        /// Whether it is clear who is to own them.
        clear: bool,
    },
    /// Slots that two nodes claim.
    Contested(SlotSet),
    /// Too few primaries are reachable for a vote, and some of the others are not proved dead.
    MajorityLost(LostMajority),
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
        /// Whether its process lives all the same: it answered something, or answers other nodes.
        lives: bool,
    },
    /// A server's address refuses clients, though other nodes have bus links to its node.
    Refuses {
        /// Which.
        server: ServerName,
        /// How many have.
        by: usize,
        /// Of how many.
        of: usize,
        /// The address that refuses.
        address: Address,
        /// The bus port at which others reach it.
        bus_port: Option<u16>,
    },
    /// A server that answers other nodes on the bus, and no client.
    Unanswered {
        /// Which.
        server: ServerName,
    },
    /// A server that runs a script or a function for too long.
    Busy {
        /// Which.
        server: ServerName,
        /// Where.
        address: Address,
    },
    /// A primary whose id has no address any more, and that nobody holds to have failed.
    IdLost {
        /// Which.
        node: NodeId,
        /// Its slots.
        slots: SlotSet,
        /// A replica of it that was heard.
        replica: Option<NodeId>,
        /// One that was not: as long as it is listed, it may take the primary's place.
        silent: Option<NodeId>,
    },
    /// A primary that refuses what clients write, or a replica that would if it became one.
    RefusesWrites {
        /// Which.
        node: NodeId,
        /// Where it answers.
        address: Address,
        /// Why.
        why: NoWrites,
        /// A replica that could take its place, and takes writes.
        replica: Option<NodeId>,
        /// Whether it is a replica itself.
        is_replica: bool,
    },
    /// A server that was not heard.
    Unheard {
        /// Which.
        server: ServerName,
        /// Why.
        why: Why,
        /// Whether it was a primary whose slots others have by now: once started it drops what they do not have.
        replaced: bool,
    },
    /// A node that others list, without a known server.
    Lost {
        /// Which.
        node: NodeId,
        /// Where it is listed, if another node answers there.
        taken: Option<Taken>,
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
    /// Slots that are half moved.
    OpenSlots {
        /// Which.
        slots: SlotSet,
        /// From where.
        from: NodeId,
        /// To where.
        to: NodeId,
        /// Who shows them open: one of the two, or both.
        open_at: BTreeSet<NodeId>,
        /// Whether they were seen to change: then somebody is moving them.
        under_way: bool,
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
    /// The primaries with slots differ in a library of functions.
    FunctionsDiffer(FunctionsDiffer),
    /// A primary has libraries of functions that could not be read.
    FunctionsUnknown {
        /// Which.
        node: NodeId,
        /// Where it answers.
        address: Address,
        /// Why not.
        why: Why,
    },
    /// A node does not serve.
    StateFail(BTreeSet<NodeId>),
    /// A replica without its copy or link.
    ReplicaLinkDown {
        /// Which.
        node: NodeId,
    },
    /// A replica whose full copy begins again and again.
    RepeatedCopy(RepeatedCopy),
    /// A replica whose version can't read what its primary's writes.
    CannotCopy {
        /// The replica, and its version.
        replica: (NodeId, EngineKind, Version),
        /// Its primary, and its version.
        primary: (NodeId, EngineKind, Version),
    },
    /// A replica that copies from an address that is not its primary's.
    CopiesElsewhere {
        /// Which.
        node: NodeId,
        /// From where.
        from: Address,
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
    /// Two shards of which one has at least two replicas more.
    UnevenReplicas {
        /// The primary that has most, and how many.
        most: (NodeId, usize),
        /// The primary that has fewest, and how many.
        least: (NodeId, usize),
        /// A replica of the one that has most, and its address.
        spare: (NodeId, Address),
    },
    /// A primary without slots.
    EmptyPrimary {
        /// Which.
        node: NodeId,
    },
    /// A host or a zone, of several, that holds so many of the primaries that the others are no majority without it.
    Majority {
        /// Which, and how many.
        at: PrimariesAt,
        /// A replica that could take its primary's place now, so that primaries are spread better.
        replica: Option<NodeId>,
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
    /// A replica with its copy that is set not to take its primary's place by itself.
    HeldBack {
        /// Which.
        node: NodeId,
        /// Where it answers.
        address: Address,
    },
    /// Two processes with one id.
    DuplicateId(Box<DuplicateId>),
    /// Several major versions or engines.
    MixedVersions(BTreeSet<(EngineKind, Version)>),
}

impl ProblemKind {
    /// Why a server refuses writes, where that is the problem.
    pub fn no_writes(&self) -> Option<NoWrites> {
        match self {
            Self::RefusesWrites { why, .. } => Some(*why),
            _ => None,
        }
    }
}

/// Everything that is wrong with a cluster, the worst first.
pub fn diagnose(o: &Observed) -> Vec<Problem> {
    let mut found = BTreeSet::new();
    slots(o, &mut found);
    silence(o, &mut found);
    writes::of(o, &mut found);
    functions::of(o, &mut found);
    views(o, &mut found);
    primaries::of(o, &mut found);
    shards(o, &mut found);
    worst_first(found)
}

fn worst_first(found: impl IntoIterator<Item = Problem>) -> Vec<Problem> {
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
    keys::uncovered(o, found);
    if !o.contested().is_empty() {
        add(
            found,
            Severity::Fatal,
            ProblemKind::Contested(o.contested().clone()),
        );
    }
    open_slots::open_slots(o, found);
    keys::stray_keys(o, found);
    let down: BTreeSet<NodeId> = o
        .views()
        .filter(|(_, v)| !v.cluster.state_ok)
        .map(|(_, v)| v.id)
        .collect();
    if !down.is_empty() {
        add(found, Severity::Fatal, ProblemKind::StateFail(down));
    }
}

fn silence(o: &Observed, found: &mut Found) {
    for server in o.servers().values() {
        if let Seen::Unknown(why) = &server.view {
            add(found, Severity::Fatal, there::unheard(o, server, why));
        }
    }
    for duplicate in o.duplicates() {
        let kind = ProblemKind::DuplicateId(Box::new(duplicate.clone()));
        add(found, Severity::Fatal, kind);
    }
    if let Some(lost) = LostMajority::of(&Desired::guest(), o) {
        add(found, Severity::Fatal, ProblemKind::MajorityLost(lost));
    }
    for m in o.members().values().filter(|m| m.source == Source::Others) {
        if m.role == Role::Primary && !m.slots.is_empty() && has_lost_id(o, m.id) {
            let one = |source| {
                let mut replicas = o.replicas_of(m.id);
                replicas.find(|r| r.source == source).map(|r| r.id)
            };
            let kind = ProblemKind::IdLost {
                node: m.id,
                slots: m.slots.clone(),
                replica: one(Source::Itself),
                silent: one(Source::Others),
            };
            add(found, Severity::Fatal, kind);
            continue;
        }
        if m.role == Role::Primary && !m.slots.is_empty() {
            let proved = Dead::prove(o, m.id).is_some();
            // Where it is known to be dead, only one that may take its place counts.
            let heard = o.replicas_of(m.id).any(|r| r.source == Source::Itself);
            let replica = heard && (!proved || candidate(&Desired::guest(), o, m.id).is_some());
            let kind = ProblemKind::PrimaryDown {
                node: m.id,
                slots: m.slots.clone(),
                proved,
                replica,
                lives: there::lives(o, m.id),
            };
            add(found, Severity::Fatal, kind);
        }
        if m.server.is_none() {
            let (node, taken) = (m.id, there::taken(o, m));
            add(found, Severity::Fatal, ProblemKind::Lost { node, taken });
        }
    }
}

fn views(o: &Observed, found: &mut Found) {
    let mut by_kind: BTreeMap<Dissent, (BTreeSet<NodeId>, BTreeSet<NodeId>)> = BTreeMap::new();
    // What is believed of two processes with one id changes with whichever was heard last.
    let one = |id: NodeId| !o.has_duplicate(id);
    for g in o
        .disagreements()
        .iter()
        .filter(|g| one(g.speaker) && one(g.about))
    {
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
    uneven(o, found);
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
    if let Some(from) = copies_elsewhere(o, m.id) {
        let node = m.id;
        add(
            found,
            Severity::Fatal,
            ProblemKind::CopiesElsewhere { node, from },
        );
        return;
    }
    let older = m.primary.and_then(|id| cannot_copy(o, m.id, id));
    let found_older = older.is_some();
    if let Some(kind) = older {
        add(found, Severity::Fatal, kind);
    }
    if !found_older && o.view_of(m.id).is_some_and(|v| !in_sync(o, v)) {
        let kind = match RepeatedCopy::of(o, m.id) {
            Some(again) => ProblemKind::RepeatedCopy(again),
            None => ProblemKind::ReplicaLinkDown { node: m.id },
        };
        add(found, Severity::Fatal, kind);
    }
    if o.view_of(m.id)
        .is_some_and(|v| never_elects(v) && in_sync(o, v))
    {
        let (node, address) = (m.id, m.address.clone());
        add(
            found,
            Severity::Note,
            ProblemKind::HeldBack { node, address },
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

/// A replica that can't read what its primary writes.
fn cannot_copy(o: &Observed, replica: NodeId, primary: NodeId) -> Option<ProblemKind> {
    let (reader, writer) = (&o.view_of(replica)?.server, &o.view_of(primary)?.server);
    (!reader.reads(writer)).then_some(ProblemKind::CannotCopy {
        replica: (replica, reader.engine, reader.version),
        primary: (primary, writer.engine, writer.version),
    })
}

/// Replicas that are divided so that a shard has two more than another.
fn uneven(o: &Observed, found: &mut Found) {
    let live = |id: NodeId| o.replicas_of(id).filter(|r| r.source == Source::Itself);
    let counted = || o.voters().map(|m| (live(m.id).count(), m.id));
    let (Some((many, most)), Some((few, least))) = (counted().max(), counted().min()) else {
        return;
    };
    // A shard without any is told by itself.
    let spare = live(most).last().map(|r| (r.id, r.address.clone()));
    if let Some(spare) = spare.filter(|_| few > 0 && many >= few + 2) {
        let (most, least) = ((most, many), (least, few));
        add(
            found,
            Severity::Note,
            ProblemKind::UnevenReplicas { most, least, spare },
        );
    }
}
