//! Whether a pod that its volume ties to a lost Kubernetes node may be made anew elsewhere, without the volume. Pure.
//!
//! The Kubernetes node may be cut off only, and the server live on there. So this needs no proof of a death: it needs
//! that nothing is lost with the volume. The other copies of the shard must speak now, and the node must own nothing.

use std::fmt;

use shardwright_topology::{Member, NodeId, Observed, Role, Server, ServerName, Source, Timestamp};

/// A pod that can't be where its volume is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stranded {
    /// Its server.
    pub server: ServerName,
    /// The Kubernetes node that its volume is tied to.
    pub host: String,
    /// Since when that is known to be away; absent while it is well.
    pub away_since: Option<Timestamp>,
}

/// Why a volume is not given up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NoRecreate {
    /// The Kubernetes node is well: the pod can run there.
    HostIsThere,
    /// It is away, but not for long enough.
    NotYet {
        /// How long it still has, in milliseconds.
        left_ms: u64,
    },
    /// The server speaks.
    Speaks,
    /// There is no such server, or it is not known which node's data the volume holds.
    DataUnknown,
    /// The node owns slots: its volume may be the freshest copy, until another is confirmed as their owner.
    OwnsSlots {
        /// The node.
        node: NodeId,
    },
    /// The node was a replica, and its primary does not speak: the volume may be the last copy.
    PrimarySilent {
        /// The primary.
        primary: NodeId,
    },
    /// Nobody tells of the node, and not every slot has an owner that speaks: what it had may be missing.
    SomeSlotsSilent,
}

impl fmt::Display for NoRecreate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HostIsThere => f.write_str("its Kubernetes node is well"),
            Self::NotYet { left_ms } => {
                write!(
                    f,
                    "its Kubernetes node may return for {} s more",
                    left_ms.div_ceil(1000)
                )
            }
            Self::Speaks => f.write_str("it answers"),
            Self::DataUnknown => f.write_str("it is not known whose data its volume holds"),
            Self::OwnsSlots { node } => {
                write!(
                    f,
                    "node {} owns slots: no other copy of them is confirmed",
                    node.short()
                )
            }
            Self::PrimarySilent { primary } => write!(
                f,
                "its primary {} does not answer: the volume may be the last copy",
                primary.short()
            ),
            Self::SomeSlotsSilent => {
                f.write_str("not all slots are served: the volume may be the last copy of some")
            }
        }
    }
}

/// Whether the volume of this pod may be given up, its Kubernetes node being away for `after_ms`.
pub fn may_recreate(
    stranded: &Stranded,
    after_ms: u64,
    o: &Observed,
    now: Timestamp,
) -> Result<(), NoRecreate> {
    let since = stranded.away_since.ok_or(NoRecreate::HostIsThere)?;
    let away_ms = now.since_ms(since);
    if away_ms < after_ms {
        let left_ms = after_ms - away_ms;
        return Err(NoRecreate::NotYet { left_ms });
    }
    let server = o.servers().get(&stranded.server);
    let server = server.ok_or(NoRecreate::DataUnknown)?;
    if server.view.known().is_some() {
        return Err(NoRecreate::Speaks);
    }
    another_copy_speaks(o, server)
}

/// Whether what this silent server holds is held by one that speaks, too.
fn another_copy_speaks(o: &Observed, server: &Server) -> Result<(), NoRecreate> {
    let node = server.recorded_id.ok_or(NoRecreate::DataUnknown)?;
    let speaks = |m: &Member| m.source == Source::Itself;
    match o.member(node) {
        Some(member) if !member.slots.is_empty() => Err(NoRecreate::OwnsSlots { node }),
        Some(Member {
            role: Role::Replica,
            primary: Some(primary),
            ..
        }) => {
            let lives = o
                .member(*primary)
                .is_some_and(|p| speaks(p) && p.role == Role::Primary && !p.slots.is_empty());
            lives
                .then_some(())
                .ok_or(NoRecreate::PrimarySilent { primary: *primary })
        }
        // A primary without slots, a replica of nobody, or one that was forgotten: its shard may be any.
        Some(_) | None => {
            let all_speak = o.uncovered().is_empty() && o.voters().all(speaks);
            all_speak.then_some(()).ok_or(NoRecreate::SomeSlotsSilent)
        }
    }
}

#[cfg(test)]
#[path = "volumes_tests.rs"]
mod tests;
