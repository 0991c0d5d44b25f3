//! Why slots do not move just now.

use std::collections::BTreeSet;
use std::fmt;

use shardwright_topology::{
    AtLimit, Dissent, EngineKind, NoWrites, NodeId, NodeView, Observed, Role, Seen, ServerName,
    Slot, SlotSet, Source, Unreadable, Version, Why,
};

use super::room::why_no_room;
use crate::diagnose::no_writes;
use crate::evidence::in_sync;
use crate::functions;
use crate::{Authority, Desired, Shape};

/// Why slots are not moved from one primary to another.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum NoMove {
    /// A person paused it.
    Paused,
    /// Something more urgent is done first.
    NotItsTurn,
    /// Two processes answer as one node: who owns what is not known until one of them is stopped.
    DuplicateId {
        /// The node.
        node: NodeId,
    },
    /// Not every slot has one owner that was heard.
    SlotsUnserved,
    /// Two nodes claim these slots.
    Contested {
        /// Which.
        slots: SlotSet,
    },
    /// A slot is half moved already: that ends first.
    SlotOpen {
        /// The slot.
        slot: Slot,
        /// At which node.
        node: NodeId,
    },
    /// Not everyone agrees on who owns what.
    ViewsDiffer {
        /// Whose view it is.
        speaker: NodeId,
        /// Whose slots or epoch it has wrong.
        about: NodeId,
    },
    /// A server was not heard: healing comes first.
    Unheard {
        /// Which.
        server: ServerName,
    },
    /// A replica has no full copy, or no link to its primary: that comes first.
    NotInSync {
        /// Which.
        node: NodeId,
    },
    /// The node that has the slots, or is to get them, was not heard.
    EndUnheard {
        /// Which.
        node: NodeId,
    },
    /// The source does not say that it owns the slots.
    NotTheOwner {
        /// The source.
        node: NodeId,
    },
    /// A replica of the source or the target was told to take its place, and how that ended is not known yet.
    MayBePassed {
        /// The replica.
        by: NodeId,
        /// The source or target.
        node: NodeId,
    },
    /// The target is no primary.
    NotAPrimary {
        /// The target.
        node: NodeId,
    },
    /// The target does not serve yet: clients would be sent to a node that refuses them.
    NotServing {
        /// The target.
        node: NodeId,
    },
    /// An end of the move refuses writes: keys can be moved neither to it nor away from it, and clients could not write what
    /// has moved there.
    RefusesWrites {
        /// Which.
        node: NodeId,
        /// Why it refuses them.
        why: NoWrites,
        /// Whether that may end by itself: a replica is being brought back, or takes its copy.
        ends_by_itself: bool,
    },
    /// The target's shard has too few replicas in sync: what moves there would be less safe than it was.
    ReplicasLack {
        /// The target.
        primary: NodeId,
        /// How many are in sync.
        have: u16,
        /// How many there should be.
        want: u16,
    },
    /// The target has no slots yet, and lacks libraries of functions that all owners of slots have with the same code:
    /// clients would call what is not there.
    FunctionsLack {
        /// The target.
        node: NodeId,
        /// The names of the libraries.
        libraries: BTreeSet<String>,
    },
    /// The source would give its last slot away, and alone has these libraries of functions, or this code of them: it then
    /// takes another's in their place.
    FunctionsOnlyHere {
        /// The source.
        node: NodeId,
        /// The names of the libraries.
        libraries: BTreeSet<String>,
    },
    /// The target has no slots yet, and fewer libraries of functions than others, and which ones could not be read.
    FunctionsUnknown {
        /// Whose libraries could not be read.
        node: NodeId,
        /// Why not.
        why: Why,
    },
    /// The target's version can't read the keys that the source's version sends.
    CannotRead {
        /// The target, and its version.
        to: (NodeId, EngineKind, Version),
        /// The source, and its version.
        from: (NodeId, EngineKind, Version),
    },
    /// The source has keys in databases that the target does not have.
    FewerDatabases {
        /// The target, and how many it has.
        to: (NodeId, u32),
        /// The source, and how many its keys are in.
        from: (NodeId, u32),
    },
    /// The server of the source or the target was told to end.
    Leaving {
        /// Which.
        server: ServerName,
    },
    /// The source holds keys of slots that it does not own, or the target some of what is to come: they go to their
    /// owners first. A source that has given its last slot away drops all its keys.
    StrayKeys {
        /// Which.
        node: NodeId,
        /// How many; `None` where that was not counted.
        keys: Option<u64>,
    },
    /// The target would exceed its memory limit, or come so near to it that it may. In bytes.
    Memory {
        /// The target.
        node: NodeId,
        /// What it uses.
        used: u64,
        /// What the slots take at their source.
        moves: u64,
        /// Its limit.
        limit: u64,
        /// What it does at its limit; `None` where it does not say.
        at_limit: Option<AtLimit>,
    },
    /// The target has a memory limit, and does not say what it uses.
    RoomUnknown {
        /// The target.
        node: NodeId,
    },
    /// The target has a memory limit, and what these slots take was not measured. Whoever makes observations does that
    /// next: [`Plan::unmeasured`](crate::Plan::unmeasured).
    SizeUnknown {
        /// Who has them.
        node: NodeId,
        /// The slots.
        slots: SlotSet,
    },
}

impl NoMove {
    /// Whether this ends only when a person does something.
    pub(crate) fn needs_a_person(&self) -> bool {
        match self {
            Self::Paused
            | Self::Memory { .. }
            | Self::RoomUnknown { .. }
            | Self::SizeUnknown { .. }
            | Self::DuplicateId { .. }
            | Self::CannotRead { .. }
            | Self::FewerDatabases { .. }
            | Self::RefusesWrites {
                ends_by_itself: false,
                ..
            }
            | Self::FunctionsOnlyHere { .. }
            | Self::FunctionsUnknown {
                why: Why::Denied(_),
                ..
            } => true,
            Self::NotItsTurn
            | Self::SlotsUnserved
            | Self::Contested { .. }
            | Self::SlotOpen { .. }
            | Self::ViewsDiffer { .. }
            | Self::Unheard { .. }
            | Self::NotInSync { .. }
            | Self::EndUnheard { .. }
            | Self::NotTheOwner { .. }
            | Self::MayBePassed { .. }
            | Self::NotAPrimary { .. }
            | Self::NotServing { .. }
            | Self::ReplicasLack { .. }
            | Self::RefusesWrites { .. }
            | Self::FunctionsLack { .. }
            | Self::FunctionsUnknown { .. }
            | Self::StrayKeys { .. }
            | Self::Leaving { .. } => false,
        }
    }
}

impl NoMove {
    /// What a target uses, what would come, and its limit. Nothing for any other reason.
    fn fmt_memory(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Memory {
            node,
            used,
            moves,
            limit,
            at_limit,
        } = self
        else {
            return Ok(());
        };
        write!(
            f,
            "{node:?} uses {used} bytes of memory, about {moves} would come, and its limit is {limit}"
        )?;
        match at_limit {
            Some(AtLimit::Evicts) => f.write_str(", at which it deletes keys"),
            Some(AtLimit::Refuses) => f.write_str(", at which it refuses writes"),
            None => Ok(()),
        }
    }
}

fn fewer_databases(to: NodeId, has: u32, from: NodeId, wants: u32) -> String {
    format!("{to:?} has {has} databases, and {from:?} has keys in {wants} (cluster-databases)")
}

impl fmt::Display for NoMove {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paused => f.write_str("they are paused until a person resumes them"),
            Self::NotItsTurn => f.write_str("something else is done first"),
            Self::DuplicateId { node } => write!(
                f,
                "two processes answer as node {node:?}; stop the one whose data is not needed first"
            ),
            Self::SlotsUnserved => f.write_str("not every slot is served"),
            Self::Contested { slots } => write!(f, "two nodes claim slots {slots}"),
            Self::SlotOpen { slot, node } => write!(f, "slot {slot} is open at {node:?}"),
            Self::ViewsDiffer { speaker, about } => {
                write!(f, "{speaker:?} has no news yet of what {about:?} owns")
            }
            Self::Unheard { server } => write!(f, "{server} is not heard"),
            Self::NotInSync { node } => write!(f, "replica {node:?} is not in sync"),
            Self::EndUnheard { node } => write!(f, "{node:?} is not heard"),
            Self::NotTheOwner { node } => write!(f, "{node:?} does not own all of these slots"),
            Self::MayBePassed { by, node } => write!(
                f,
                "{by:?} was told to take the place of {node:?}, and may still do so"
            ),
            Self::NotAPrimary { node } => write!(f, "{node:?} is not a primary"),
            Self::NotServing { node } => write!(f, "{node:?} does not serve yet"),
            Self::RefusesWrites { node, why, .. } => {
                write!(f, "{node:?} refuses writes: {}", no_writes(*why))
            }
            Self::ReplicasLack {
                primary,
                have,
                want,
            } => write!(f, "{have} of {want} replicas of {primary:?} are in sync"),
            Self::FunctionsLack { node, libraries } => write!(
                f,
                "{node:?} lacks libraries of functions: {}",
                functions::names(libraries)
            ),
            Self::FunctionsOnlyHere { node, libraries } => write!(
                f,
                "{node:?} alone has libraries of functions, or this code of them, which go with its last slot: {}",
                functions::names(libraries)
            ),
            Self::FunctionsUnknown { node, why } => write!(
                f,
                "which libraries of functions {node:?} has could not be read: {why}"
            ),
            Self::CannotRead {
                to: (to, reads, by),
                from: (from, sends, as_),
            } => write!(
                f,
                "{to:?} runs {reads} {by}, which can't read the keys of {sends} {as_}, as {from:?} would send them"
            ),
            Self::FewerDatabases {
                to: (to, has),
                from: (from, wants),
            } => f.write_str(&fewer_databases(*to, *has, *from, *wants)),
            Self::Leaving { server } => write!(f, "{server} is being stopped"),
            Self::StrayKeys {
                node,
                keys: Some(keys),
            } => write!(
                f,
                "{node:?} holds {keys} keys of slots that it does not own, which go to their owners first"
            ),
            Self::StrayKeys { node, keys: None } => write!(
                f,
                "it is not known whether {node:?} holds keys of slots that it does not own"
            ),
            Self::Memory { .. } => self.fmt_memory(f),
            Self::RoomUnknown { node } => write!(
                f,
                "{node:?} has a memory limit, and does not say how much it uses"
            ),
            Self::SizeUnknown { node, slots } => write!(
                f,
                "how much memory slots {slots} take at {node:?} could not be measured"
            ),
        }
    }
}

/// Every reason not to move these slots from one primary to another now.
pub fn why_not_move(
    d: &Desired,
    o: &Observed,
    from: NodeId,
    to: NodeId,
    slots: &SlotSet,
) -> Vec<NoMove> {
    let mut why = why_no_moves(d, o);
    why.extend(why_not_between(d, o, from, to, slots));
    why.extend(why_no_room(d, o, to, &[(from, slots.clone())]));
    why
}

/// The reasons against any move at all, the first of each kind.
pub(crate) fn why_no_moves(d: &Desired, o: &Observed) -> Vec<NoMove> {
    let mut why = Vec::new();
    if d.moves_paused {
        why.push(NoMove::Paused);
    }
    let duplicates = o.duplicates().iter();
    why.extend(duplicates.map(|d| NoMove::DuplicateId { node: d.node }));
    if !super::all_served(o) {
        why.push(NoMove::SlotsUnserved);
    }
    if !o.contested().is_empty() {
        let slots = o.contested().clone();
        why.push(NoMove::Contested { slots });
    }
    let open = |v: &shardwright_topology::NodeView| {
        let slot = v.open_slots().first()?.slot();
        Some(NoMove::SlotOpen { slot, node: v.id })
    };
    why.extend(o.views().find_map(|(_, v)| open(v)));
    let differs = o.disagreements().iter();
    let mut differs = differs.filter(|g| g.dissent == Dissent::Slots);
    why.extend(differs.next().map(|g| NoMove::ViewsDiffer {
        speaker: g.speaker,
        about: g.about,
    }));
    if d.authority == Authority::Managed {
        let mut silent = o.servers().values().filter(|s| s.view.known().is_none());
        why.extend(silent.next().map(|s| NoMove::Unheard {
            server: s.name.clone(),
        }));
        let mut behind = o.views().filter(|(_, v)| !in_sync(o, v));
        why.extend(behind.next().map(|(_, v)| NoMove::NotInSync { node: v.id }));
    }
    why
}

/// The reasons against a move between these two.
pub(crate) fn why_not_between(
    d: &Desired,
    o: &Observed,
    from: NodeId,
    to: NodeId,
    slots: &SlotSet,
) -> Vec<NoMove> {
    let mut why = Vec::new();
    for node in [from, to] {
        match o.view_of(node) {
            None => why.push(NoMove::EndUnheard { node }),
            Some(view) if node == to => {
                if !view.cluster.state_ok {
                    why.push(NoMove::NotServing { node });
                }
                why.extend(stray_keys(view, |slot| slots.contains(slot)));
                why.extend(epoch_unknown(o, view));
            }
            Some(view) => {
                let claims = view.own().map(|own| &own.slots);
                let owns = claims.is_some_and(|own| slots.difference(own).is_empty());
                if !owns || slots.slots().any(|s| o.owner(s) != Some(from)) {
                    why.push(NoMove::NotTheOwner { node });
                }
                why.extend(holds_stray_keys(view));
            }
        }
        why.extend(refuses_writes(d, o, node, node == to));
        if let Some(server) = o.server_of(node).filter(|s| s.leaving) {
            let server = server.name.clone();
            why.push(NoMove::Leaving { server });
        }
        why.extend(may_be_passed(o, node).map(|by| NoMove::MayBePassed { by, node }));
    }
    if let (Some(source), Some(target)) = (o.view_of(from), o.view_of(to)) {
        let (source, target) = (&source.server, &target.server);
        why.extend(target.why_not_take_keys(source).map(|why| match why {
            Unreadable::Version => NoMove::CannotRead {
                to: (to, target.engine, target.version),
                from: (from, source.engine, source.version),
            },
            Unreadable::Databases { has, wants } => NoMove::FewerDatabases {
                to: (to, has),
                from: (from, wants),
            },
        }));
    }
    let primary = o.member(to).is_some_and(|m| m.role == Role::Primary);
    if !primary || from == to {
        why.push(NoMove::NotAPrimary { node: to });
    } else {
        why.extend(why_replicas_lack(d, o, to));
        why.extend(why_functions_lack(o, to));
    }
    why
}

/// Whether a primary holds, or may hold, keys of any slot without owning it.
pub(crate) fn holds_stray_keys(view: &NodeView) -> Option<NoMove> {
    stray_keys(view, |_| true)
}

/// The same of such slots.
fn stray_keys(view: &NodeView, such: impl Fn(Slot) -> bool) -> Option<NoMove> {
    let node = view.id;
    if view.own().is_none_or(|own| own.role != Role::Primary) {
        return None;
    }
    let Seen::Known(strays) = &view.stray_keys else {
        return Some(NoMove::StrayKeys { node, keys: None });
    };
    let keys = strays.iter().filter(|(slot, _)| such(**slot));
    let keys = keys.map(|(_, n)| *n).sum();
    let keys = Some(keys);
    (keys > Some(0)).then_some(NoMove::StrayKeys { node, keys })
}

/// The replica that was told to take this primary's place, while it is not known how that ended.
pub(crate) fn may_be_passed(o: &Observed, primary: NodeId) -> Option<NodeId> {
    let mut open = o.attempts.iter().filter(|a| !a.ended);
    open.find(|a| o.replicas_of(primary).any(|m| m.id == a.node))
        .map(|a| a.node)
}

/// Whether keys can't be moved to a node, or away from it, as it refuses writes. What is said of its memory is a matter of
/// its limit ([`why_no_room`]). Valkey 9 and later take keys away from a source by themselves, whatever it refuses to
/// clients.
fn refuses_writes(d: &Desired, o: &Observed, node: NodeId, is_target: bool) -> Option<NoMove> {
    let server = &o.view_of(node)?.server;
    let why = server.no_writes?;
    let moves_natively = server.engine == EngineKind::Valkey && server.version.major >= 9;
    if why == NoWrites::Memory || (!is_target && moves_natively) {
        return None;
    }
    // Ours are brought back; of others', one that answers is still taking its copy, or may be counted soon.
    let comes = |id| o.view_of(id).is_some_and(|v| !in_sync(o, v));
    let brought_back = d.authority == Authority::Managed;
    let ends_by_itself = matches!(why, NoWrites::Replicas { .. })
        && (brought_back || o.replicas_of(node).any(|m| comes(m.id)));
    Some(NoMove::RefusesWrites {
        node,
        why,
        ends_by_itself,
    })
}

/// Whether a primary that has no slots yet lacks libraries of functions that all owners of slots have.
fn why_functions_lack(o: &Observed, to: NodeId) -> Option<NoMove> {
    match functions::missing(o, to) {
        Ok(None) => None,
        Ok(Some(missing)) => Some(NoMove::FunctionsLack {
            node: to,
            libraries: missing.libraries.into_keys().collect(),
        }),
        Err(unknown) => Some(unknown),
    }
}

/// What goes with the last slots of a node that gives all of them away.
pub(crate) fn why_functions_go(o: &Observed, from: NodeId) -> Option<NoMove> {
    match functions::only_at(o, from) {
        Ok(libraries) if libraries.is_empty() => None,
        Ok(libraries) => Some(NoMove::FunctionsOnlyHere {
            node: from,
            libraries,
        }),
        Err(unknown) => Some(unknown),
    }
}

/// The target takes an epoch of its own choice: it must know those of all primaries, or its claim may be less than
/// theirs.
fn epoch_unknown(o: &Observed, view: &shardwright_topology::NodeView) -> Option<NoMove> {
    let known = |id| view.rows.get(id).map(|row| row.epoch);
    let mut heard = o.voters().filter(|m| m.source == Source::Itself);
    let about = heard.find(|m| known(m.id).is_none_or(|epoch| epoch < m.epoch))?;
    Some(NoMove::ViewsDiffer {
        speaker: view.id,
        about: about.id,
    })
}

/// Whether a shard of ours has too few replicas in sync to be given slots.
pub(crate) fn why_replicas_lack(d: &Desired, o: &Observed, primary: NodeId) -> Option<NoMove> {
    let (
        Authority::Managed,
        Shape::Declared {
            replicas_per_shard: want,
            ..
        },
    ) = (d.authority, d.shape)
    else {
        return None;
    };
    let copies = |id| o.view_of(id).is_some_and(|v| in_sync(o, v));
    let have = o.replicas_of(primary).filter(|m| copies(m.id)).count();
    let have = u16::try_from(have).unwrap_or(u16::MAX);
    (have < want).then_some(NoMove::ReplicasLack {
        primary,
        have,
        want,
    })
}
