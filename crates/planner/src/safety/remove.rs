//! Why a server that is not wanted any more stays.

use std::fmt;

use shardwright_topology::{Member, NodeId, NodeView, Observed, Role, Server, ServerName, Source};

use super::all_served;
use crate::evidence::in_sync;
use crate::ours::is_fresh;
use crate::surplus::{surplus, wanted};
use crate::{Desired, Limits, Shape};

/// Why a server is not taken out of its cluster, or not taken away.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum NoRemove {
    /// The shape does not say that it is too many.
    Wanted,
    /// Servers are taken away from the end, and one behind it stays for now.
    NotLast {
        /// That one.
        last: ServerName,
    },
    /// It was not heard: what it holds is not known.
    Unheard,
    /// It was told to end: it is seen next whether it comes back.
    Ending,
    /// Another server says that it is the same node.
    Twin,
    /// It owns slots.
    OwnsSlots {
        /// How many.
        slots: u16,
    },
    /// It gave its slots away a moment ago, and tells clients who has them now.
    Drains {
        /// For how long it does, in milliseconds.
        for_ms: u64,
    },
    /// It holds keys that are no copy.
    HoldsKeys {
        /// How many.
        keys: u64,
    },
    /// Nodes copy it.
    HasReplicas {
        /// How many.
        replicas: usize,
    },
    /// Without it its shard has too few replicas in sync, of those that stay.
    CopyNeeded {
        /// Its primary.
        primary: NodeId,
        /// How many there are without it.
        have: u16,
        /// How many there should be.
        want: u16,
    },
    /// It is a replica of a node that does not answer as the owner of slots.
    PrimarySilent {
        /// That node.
        primary: NodeId,
    },
    /// Not every slot has one owner that was heard.
    SlotsUnserved,
    /// Another server was not heard, and would not forget it.
    OtherUnheard {
        /// Which.
        server: ServerName,
    },
    /// It knows others, or greets them.
    KnowsOthers {
        /// How many.
        nodes: usize,
    },
    /// Others list its node, or the one that is recorded there.
    Listed {
        /// That node.
        node: NodeId,
    },
    /// Something more urgent is done first.
    NotItsTurn,
}

impl NoRemove {
    /// Whether this ends only when a person does something.
    pub(crate) fn needs_a_person(&self) -> bool {
        match self {
            Self::HoldsKeys { .. } => true,
            Self::Wanted
            | Self::OwnsSlots { .. }
            | Self::Drains { .. }
            | Self::NotLast { .. }
            | Self::Unheard
            | Self::Ending
            | Self::Twin
            | Self::HasReplicas { .. }
            | Self::CopyNeeded { .. }
            | Self::PrimarySilent { .. }
            | Self::SlotsUnserved
            | Self::OtherUnheard { .. }
            | Self::KnowsOthers { .. }
            | Self::Listed { .. }
            | Self::NotItsTurn => false,
        }
    }
}

impl fmt::Display for NoRemove {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wanted => f.write_str("it is one of those that are wanted"),
            Self::NotLast { last } => write!(f, "{last} goes first, or with it"),
            Self::Unheard => f.write_str("it is not heard, so what it holds is not known"),
            Self::Ending => f.write_str("it is being stopped"),
            Self::Twin => f.write_str("another server says that it is the same node"),
            Self::OwnsSlots { slots } => {
                write!(f, "it owns {slots} slots, which move to others first")
            }
            Self::Drains { for_ms } => f.write_str(&drains(*for_ms)),
            Self::HoldsKeys { keys } => write!(f, "it holds {keys} keys that are no copy"),
            Self::HasReplicas { replicas } => write!(f, "{replicas} replica(s) follow it"),
            Self::CopyNeeded {
                primary,
                have,
                want,
            } => write!(
                f,
                "without it {have} of {want} replicas of {primary:?} are in sync"
            ),
            Self::PrimarySilent { primary } => {
                write!(f, "its primary {primary:?} does not answer for its slots")
            }
            Self::SlotsUnserved => f.write_str("not every slot is served"),
            Self::OtherUnheard { server } => {
                write!(f, "{server} is not heard, and would not forget it")
            }
            Self::KnowsOthers { nodes } => write!(f, "it knows {nodes} other node(s)"),
            Self::Listed { node } => write!(f, "others still list node {node:?}"),
            Self::NotItsTurn => f.write_str("something else is done first"),
        }
    }
}

/// How long a node that gave all its slots away stays, in milliseconds; nothing where that is over.
pub(crate) fn drains_for(o: &Observed, l: &Limits, node: NodeId) -> Option<u64> {
    let since = o.gave_all.get(&node);
    let drains = since.is_some_and(|at| o.at.since_ms(*at) < l.drain_ms);
    drains.then_some(l.drain_ms)
}

pub(crate) fn drains(for_ms: u64) -> String {
    let s = for_ms.div_ceil(1_000);
    format!("it tells clients for {s} s who has its slots now")
}

/// Every reason not to take this server away, with all that is on its disk.
///
/// It must be nothing by its own word, and so must all that are too many and come after it: they go with it, or are
/// going. And nobody may know it any more.
pub fn why_not_remove(d: &Desired, o: &Observed, server: &Server) -> Vec<NoRemove> {
    let mut why = why_not_too_many(d, o, server);
    let surplus = surplus(d, o);
    let mut after = surplus.iter().take_while(|s| s.name != server.name);
    if let Some(last) = after.find(|s| !is_nothing(o, s)) {
        let last = last.name.clone();
        why.push(NoRemove::NotLast { last });
    }
    why.extend(why_something(o, server));
    why
}

/// Whether a server has nothing that could be lost, and nobody knows it: by its own word now, or by its last word where
/// it was told to end.
fn is_nothing(o: &Observed, server: &Server) -> bool {
    match (server.view.known(), server.last_heard.as_deref()) {
        (Some(view), _) => !o.has_duplicate(view.id) && why_something(o, server).is_empty(),
        (None, Some(last)) if server.leaving => {
            is_fresh(last) && listed(o, server, last).is_empty()
        }
        (None, _) => false,
    }
}

/// What a server that was heard still is, or others take it for.
fn why_something(o: &Observed, server: &Server) -> Vec<NoRemove> {
    let mut why = Vec::new();
    let Some(view) = server.view.known() else {
        return why;
    };
    let slots: u16 = view.rows.get(view.id).map_or(0, |own| own.slots.count());
    if slots > 0 {
        why.push(NoRemove::OwnsSlots { slots });
    }
    if view.server.keys > 0 {
        let keys = view.server.keys;
        why.push(NoRemove::HoldsKeys { keys });
    }
    let nodes = view.rows.iter().filter(|row| row.id != view.id).count();
    if nodes > 0 {
        why.push(NoRemove::KnowsOthers { nodes });
    }
    why.extend(listed(o, server, view));
    why
}

/// Its node, and the one that is recorded there, where others list them.
fn listed(o: &Observed, server: &Server, view: &NodeView) -> Vec<NoRemove> {
    let recorded = server.recorded_id.filter(|id| *id != view.id);
    let nodes = [Some(view.id), recorded].into_iter().flatten();
    let is_listed = |node: &NodeId| {
        let elsewhere = o.view_of(*node).is_some_and(|v| v.id != view.id);
        elsewhere || o.beliefs(*node).any(|(speaker, _)| speaker != view.id)
    };
    let listed = nodes.filter(is_listed);
    listed.map(|node| NoRemove::Listed { node }).collect()
}

/// Every reason not to take this server's node out of the cluster: not to have everyone forget it, and to reset it.
///
/// What it holds must be held by others, without counting on any that is too many as well.
pub fn why_not_retire(d: &Desired, o: &Observed, server: &Server) -> Vec<NoRemove> {
    let mut why = why_not_too_many(d, o, server);
    let Some(view) = server.view.known() else {
        return why;
    };
    if !all_served(o) || !o.contested().is_empty() {
        why.push(NoRemove::SlotsUnserved);
    }
    let surplus = surplus(d, o);
    let goes = |s: &Server| surplus.iter().any(|other| other.name == s.name) && is_nothing(o, s);
    let silent = |s: &&Server| s.name != server.name && s.view.known().is_none() && !goes(s);
    if let Some(other) = o.servers().values().find(silent) {
        let server = other.name.clone();
        why.push(NoRemove::OtherUnheard { server });
    }
    let Some(member) = o.member(view.id) else {
        why.push(NoRemove::Unheard);
        return why;
    };
    let claims: u16 = view.own().map_or(0, |own| own.slots.count());
    let slots = member.slots.count().max(claims);
    if slots > 0 {
        why.push(NoRemove::OwnsSlots { slots });
    }
    let replicas = o.replicas_of(member.id).count();
    if replicas > 0 {
        why.push(NoRemove::HasReplicas { replicas });
    }
    match member.role {
        Role::Primary if view.server.keys > 0 => why.push(NoRemove::HoldsKeys {
            keys: view.server.keys,
        }),
        Role::Primary => {}
        Role::Replica => why.extend(why_copy_needed(d, o, member)),
    }
    why
}

fn why_not_too_many(d: &Desired, o: &Observed, server: &Server) -> Vec<NoRemove> {
    let mut why = Vec::new();
    let surplus = surplus(d, o);
    if wanted(d, o).is_none() || !surplus.iter().any(|s| s.name == server.name) {
        why.push(NoRemove::Wanted);
    }
    if server.leaving {
        why.push(NoRemove::Ending);
    }
    match server.view.known() {
        None => why.push(NoRemove::Unheard),
        Some(view) if o.has_duplicate(view.id) => why.push(NoRemove::Twin),
        Some(_) => {}
    }
    why
}

fn why_copy_needed(d: &Desired, o: &Observed, member: &Member) -> Option<NoRemove> {
    let primary = member.primary?;
    let serves =
        |m: &Member| m.source == Source::Itself && m.role == Role::Primary && !m.slots.is_empty();
    if !o.member(primary).is_some_and(serves) {
        return Some(NoRemove::PrimarySilent { primary });
    }
    let Shape::Declared {
        replicas_per_shard: want,
        ..
    } = d.shape
    else {
        return None;
    };
    let surplus = surplus(d, o);
    let stays = |m: &&Member| {
        let name = m.server.as_ref();
        m.id != member.id && !surplus.iter().any(|s| Some(&s.name) == name)
    };
    let copies = |m: &&Member| {
        let view = o.view_of(m.id).filter(|v| in_sync(o, v));
        view.and_then(|v| v.own()).and_then(|own| own.primary) == Some(primary)
    };
    let have = o.replicas_of(primary).filter(stays).filter(copies).count();
    let have = u16::try_from(have).unwrap_or(u16::MAX);
    (have < want).then_some(NoRemove::CopyNeeded {
        primary,
        have,
        want,
    })
}
