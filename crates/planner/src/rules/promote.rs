//! A dead primary with a live replica: promote the freshest, by vote, and without votes when that is too slow.

use shardwright_topology::{
    AttemptKind, Disk, Member, NodeId, Observed, Replication, Role, Source,
};

use crate::draft::Draft;
use crate::evidence::{Dead, HowDead, LiveAt, RoleSeen, sees_role};
use crate::{Action, Authority, FailoverPolicy, Precondition, Reason, Waiting, safety};

/// Promotes a replica of every primary that is proved dead and owns slots.
pub(crate) fn dead_primaries(p: &mut Draft<'_>) {
    let silent: Vec<&Member> =
        p.o.voters()
            .filter(|m| m.source == Source::Others)
            .collect();
    for primary in silent {
        match Dead::prove(p.o, primary.id) {
            None => p.wait(Waiting::PrimarySilent { node: primary.id }),
            Some(dead) if restart_comes_first(p, &dead) => {}
            Some(dead) => promote_one(p, primary, &dead),
        }
    }
}

/// Under `KeepEveryWrite` a primary that has its file gets time to come back before a replica takes its place.
fn restart_comes_first(p: &mut Draft<'_>, dead: &Dead) -> bool {
    let HowDead::Proved(death) = dead.how() else {
        return false;
    };
    let Some(server) = p.o.server_of(dead.node()) else {
        return false;
    };
    let has_all = matches!(server.disk.known(), Some(Disk::Log | Disk::CleanSnapshot));
    let waited = p.now.since_ms(death.since);
    let policy =
        p.d.failover == FailoverPolicy::KeepEveryWrite && p.d.authority == Authority::Managed;
    if !policy || !has_all || waited >= p.l.restart_grace_ms {
        return false;
    }
    p.wait(Waiting::RestartGrace {
        server: server.name.clone(),
        left_ms: p.l.restart_grace_ms - waited,
    });
    p.act(
        Action::StartServer {
            server: server.name.clone(),
        },
        Reason::RestartFirst,
    );
    true
}

fn promote_one(p: &mut Draft<'_>, primary: &Member, dead: &Dead) {
    let Some(replica) = candidate(p.o, primary.id) else {
        p.wait(Waiting::NoCandidate {
            primary: primary.id,
        });
        return;
    };
    let since = match dead.how() {
        HowDead::Proved(death) => death.since,
        HowDead::Replaced { .. } => p.o.at,
    };
    let waited = p.now.since_ms(since);
    if let Some(sibling) =
        safety::unheard_sibling(p.o, primary.id).filter(|_| waited < p.l.sibling_wait_ms)
    {
        p.wait(Waiting::SiblingUnheard { sibling });
        return;
    }
    let asked = p
        .asked(replica, AttemptKind::Failover)
        .map(|a| p.now.since_ms(a.at));
    let too_slow = match asked {
        Some(ms) => ms >= p.l.takeover_after_ms,
        None => waited >= p.l.takeover_after_ms,
    };
    let requires = vec![Precondition::IsReplicaOf {
        node: replica,
        primary: primary.id,
    }];
    let because = Reason::PrimaryDead {
        tail_bytes_max: tail(p.o, primary.id, replica),
    };
    let taken_over = p
        .asked(replica, AttemptKind::Takeover)
        .is_some_and(|a| p.now.since_ms(a.at) < p.l.takeover_after_ms);
    if taken_over {
        p.wait(Waiting::Promotion { replica });
    } else if too_slow && safety::unheard_sibling(p.o, primary.id).is_none() {
        let because = if asked.is_some() {
            Reason::VoteTooSlow
        } else {
            because
        };
        p.act_if(
            Action::Takeover {
                replica,
                dead: dead.clone(),
            },
            because,
            requires,
        );
    } else if asked.is_some() {
        p.wait(Waiting::Promotion { replica });
    } else if let Some(seen) = RoleSeen::prove(p.o, replica, primary.id) {
        p.act_if(
            Action::Failover {
                dead: dead.clone(),
                seen,
            },
            because,
            requires,
        );
    } else {
        show_role(p, primary.id, replica);
    }
}

/// Makes the candidate greet every voter that does not see it as a replica, so that the vote can be won.
fn show_role(p: &mut Draft<'_>, primary: NodeId, replica: NodeId) {
    let of = p.o.voters().count();
    let blind: Vec<NodeId> =
        p.o.voters()
            .filter(|v| p.o.view_of(v.id).is_some() && !sees_role(p.o, v.id, replica, primary))
            .map(|v| v.id)
            .collect();
    let seen_by =
        p.o.voters()
            .filter(|v| sees_role(p.o, v.id, replica, primary))
            .count();
    p.wait(Waiting::RoleNotSeen {
        replica,
        seen_by,
        of,
    });
    for voter in blind {
        if let Some(target) = LiveAt::prove(p.o, voter) {
            let requires = vec![Precondition::LivesAt {
                node: voter,
                address: target.address().clone(),
            }];
            p.act_if(
                Action::Meet {
                    teller: replica,
                    target,
                },
                Reason::OldBelief,
                requires,
            );
        }
    }
}

/// The replica with the freshest copy, of those that were heard; of equals, the one with the smallest id.
pub(crate) fn candidate(o: &Observed, primary: NodeId) -> Option<NodeId> {
    o.replicas_of(primary)
        .filter(|m| {
            m.source == Source::Itself && m.role == Role::Replica && has_copy(o, primary, m.id)
        })
        .filter(|m| {
            o.server_of(m.id)
                .is_some_and(|s| s.process.death().is_none())
        })
        .map(|m| (offset(o, m.id), std::cmp::Reverse(m.id)))
        .max()
        .map(|(_, id)| id.0)
}

fn offset(o: &Observed, replica: NodeId) -> Option<u64> {
    match o.view_of(replica)?.server.replication {
        Replication::Replica { offset, .. } => Some(offset),
        Replication::Primary { .. } => None,
    }
}

/// Whether a replica ever had a full copy of its primary. An offset above 1 shows it (servers show 0 or 1 before);
/// else what the primary said when it was last heard: that the replica was online, or that there was nothing to copy.
fn has_copy(o: &Observed, primary: NodeId, replica: NodeId) -> bool {
    let Some(view) = o.view_of(replica) else {
        return false;
    };
    let Replication::Replica {
        offset, syncing, ..
    } = &view.server.replication
    else {
        return false;
    };
    if *syncing {
        return false;
    }
    let last = o
        .servers()
        .values()
        .find_map(|s| s.last_heard.as_deref().filter(|v| v.id == primary));
    let online = last.is_some_and(|v| match &v.server.replication {
        Replication::Primary { replicas, .. } => {
            let address = o.member(replica).map(|m| &m.address);
            v.server.keys == 0
                || replicas
                    .iter()
                    .any(|r| r.online && address.is_some_and(|a| a.same_socket(&r.address)))
        }
        Replication::Replica { .. } => false,
    });
    *offset > 1 || online
}

/// How much of the dead primary's stream the replica lacks at most, by what the primary said last. What it took in
/// after that is not in the figure: it is known only when the primary was heard.
fn tail(o: &Observed, primary: NodeId, replica: NodeId) -> Option<u64> {
    let last = o
        .servers()
        .values()
        .find_map(|s| s.last_heard.as_deref().filter(|v| v.id == primary))?;
    match last.server.replication {
        Replication::Primary { offset: end, .. } => Some(end.saturating_sub(offset(o, replica)?)),
        Replication::Replica { .. } => None,
    }
}
