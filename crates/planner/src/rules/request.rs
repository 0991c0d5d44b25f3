//! What a person asked for, once coverage is at rest.

use shardwright_topology::{AttemptKind, NodeId, NodeView, Observed, Role};

use crate::draft::Draft;
use crate::evidence::{Dead, Gone, HowDead, RoleSeen, Unburdened, copies_elsewhere, in_sync, read};
use crate::refused::why_not_dead;
use crate::rules::forget::forget_everywhere;
use crate::rules::leave::before_reset;
use crate::rules::promote::{believes_too_much, candidate, has_copy, may_step_in};
use crate::rules::shape;
use crate::stated::why_alive;
use crate::{Action, Manner, Precondition, Reason, Request, Waiting, safety};

/// Takes the next step of the request. One that is fulfilled adds nothing.
pub(crate) fn fulfil(p: &mut Draft<'_>) {
    match p.d.request.clone() {
        None | Some(Request::Form { .. } | Request::Join { .. }) => {}
        Some(Request::Promote { node, manner }) => promote(p, node, manner),
        Some(Request::Leave { node }) => leave(p, node),
        Some(Request::Assign { goal }) => shape::assign(p, &goal),
    }
}

fn promote(p: &mut Draft<'_>, node: NodeId, manner: Manner) {
    let Some(member) = p.o.member(node) else {
        return refuse(p, format!("no node {} is in this cluster", node.short()));
    };
    if member.role == Role::Primary {
        return;
    }
    let Some(primary) = member.primary else {
        return refuse(
            p,
            format!("it is not known whose replica {} is", node.short()),
        );
    };
    match manner {
        Manner::Switchover => {
            let requires = vec![Precondition::IsReplicaOf { node, primary }];
            let why: Vec<String> = safety::why_not_switch_over(p.o, p.l, node, p.now)
                .iter()
                .map(ToString::to_string)
                .collect();
            if !why.is_empty() {
                p.wait(Waiting::Request { why });
            } else if p.asked_within(node, AttemptKind::Switchover, p.l.switchover_retry_ms) {
                p.wait(Waiting::Promotion { replica: node });
            } else {
                p.act_if(
                    Action::Switchover {
                        replica: node,
                        primary,
                    },
                    Reason::Asked,
                    requires,
                );
            }
        }
        Manner::Force | Manner::Takeover => past_the_dead(p, node, primary, manner),
    }
}

/// A replica whose copy of the dead primary is fresher than this one's.
fn fresher(p: &Draft<'_>, node: NodeId, primary: NodeId) -> Option<NodeId> {
    let best = candidate(p.d, p.o, primary).filter(|best| *best != node)?;
    let offset = |id| p.o.view_of(id).and_then(read);
    (offset(best) > offset(node)).then_some(best)
}

/// Why a replica may not step in for what it holds.
fn no_copy(o: &Observed, node: NodeId, primary: NodeId) -> String {
    let (replica, of) = (node.short(), primary.short());
    let what = match copies_elsewhere(o, node) {
        Some(from) => format!("it copies from {from}, which is not the address of {of}"),
        None => format!("nothing proves that it has a copy of the data of {of}"),
    };
    format!(
        "{replica} can't step in: {what}; start {of} again, or if it is gone for good: fix --accept-data-loss"
    )
}

/// Without the old primary: only if that is proved dead.
fn past_the_dead(p: &mut Draft<'_>, node: NodeId, primary: NodeId, manner: Manner) {
    // A vote that is denied blocks the next: one at a time, whoever asked for it.
    let mut heirs = p.o.replicas_of(primary).map(|m| m.id);
    let asked = heirs.find(|id| {
        p.asked_within(*id, AttemptKind::Failover, p.l.takeover_after_ms)
            || p.asked_within(*id, AttemptKind::Takeover, p.l.takeover_after_ms)
    });
    if let Some(replica) = asked {
        return p.wait(Waiting::Promotion { replica });
    }
    let by_word = || Dead::given_up(p.d, p.o, primary).or_else(|| Dead::stated(p.d, p.o, primary));
    let dead = Dead::prove(p.o, primary).or_else(by_word);
    // One that speaks where it does not belong lives all the same.
    let dead = dead.filter(|_| !p.strangers.contains(&primary));
    let Some(dead) = dead else {
        return not_dead(p, node, primary);
    };
    // It may be started in this very pass: then it is no longer dead.
    let server = p.o.server_of(primary).map(|s| s.name.clone());
    let starts =
        |a: &Action| matches!(a, Action::StartServer { server: s } if Some(s) == server.as_ref());
    if p.steps.iter().any(|s| starts(&s.action)) {
        return refuse(p, format!("primary {} is being started", primary.short()));
    }
    if let Some(fresher) = fresher(p, node, primary).filter(|_| !p.d.consent.lose_data) {
        let why = format!("{} has the fresher copy; promote that one", fresher.short());
        return refuse(p, why);
    }
    let too_much = |m| believes_too_much(p.o, m, node);
    let requires = vec![Precondition::IsReplicaOf { node, primary }];
    let Some(view) = p.o.view_of(node) else {
        return refuse(p, format!("{} itself is not heard", node.short()));
    };
    // One that is only said to be dead may have more than what its replica read from a disk.
    let stated = *dead.how() == HowDead::Stated && !p.d.consent.lose_data;
    let holds = if stated {
        has_copy(p.o, primary, view)
    } else {
        may_step_in(p.d, p.o, primary, view)
    };
    if !holds {
        refuse(p, no_copy(p.o, node, primary));
    } else if p.o.member(primary).is_some_and(too_much) {
        let why = format!(
            "{} does not know yet who took slots of {} since; try again in a second",
            node.short(),
            primary.short()
        );
        refuse(p, why);
    } else if manner == Manner::Takeover {
        let replica = node;
        p.act_if(Action::Takeover { replica, dead }, Reason::Asked, requires);
    } else if safety::won_lately(p.o, p.l, node, p.now).is_some() {
        let why = format!(
            "{} was a primary a moment ago, and Redis would reuse its old votes; use --takeover",
            node.short()
        );
        refuse(p, why);
    } else if let Some(seen) = RoleSeen::prove(p.o, node, primary) {
        p.act_if(Action::Failover { dead, seen }, Reason::Asked, requires);
    } else {
        let why = format!(
            "too few primaries see {} as a replica of {}; wait until they do, or use --takeover",
            node.short(),
            primary.short()
        );
        refuse(p, why);
    }
}

/// Says why the primary is not held to be dead: a person may know better where it is only silent.
fn not_dead(p: &mut Draft<'_>, node: NodeId, primary: NodeId) {
    let (replica, of) = (node.short(), primary.short());
    let elsewhere = p.strangers.contains(&primary);
    let elsewhere =
        elsewhere.then(|| "it answers at a server that does not belong here".to_owned());
    let alive = elsewhere.or_else(|| why_alive(p.o, primary));
    if let Some(why) = alive.as_ref().filter(|_| p.d.consent.primary_is_dead) {
        return refuse(p, format!("primary {of} is not dead: {why}"));
    }
    let server = p.o.server_of(primary);
    let why = match server.and_then(|s| why_not_dead(p.d, p.o, s)) {
        // The others find out by themselves within node-timeout.
        Some(why) if !why.needs_a_person() => {
            return p.wait(Waiting::DeathUnproved { node: primary, why });
        }
        Some(why) => format!("primary {of} is not proved dead: {why}"),
        None if alive.is_some() => {
            format!("primary {of} is not proved dead; a switchover keeps every write")
        }
        None => format!(
            "primary {of} is not proved dead: it is only unreachable; where you know that it is dead, add \
             --i-know-the-primary-is-dead, and what it wrote and {replica} has not read is lost"
        ),
    };
    refuse(p, why);
}

/// What slots the node owns move away. Then everyone forgets it, and it forgets everyone.
fn leave(p: &mut Draft<'_>, node: NodeId) {
    let Some(member) = p.o.member(node) else {
        return;
    };
    let both = [Some(node), member.primary];
    if let Some(two) = both.into_iter().flatten().find(|id| p.o.has_duplicate(*id)) {
        let (node, two) = (node.short(), two.short());
        let why =
            format!("{node} can't leave: two processes answer as node {two}; stop the copy first");
        return refuse(p, why);
    }
    if member.role == Role::Primary && !member.slots.is_empty() && !p.d.consent.lose_data {
        return shape::drain_one(p, node);
    }
    if let Some(why) = safety::why_not_forget(p.d, p.o, node) {
        return refuse(p, format!("{} can't leave: {why}", node.short()));
    }
    let alone =
        p.o.view_of(node)
            .is_some_and(|v| v.peers().next().is_none());
    // Keys of a primary without slots are keys of others' slots: they are carried to their owners first.
    let keys = p.o.view_of(node).map_or(0, |v| v.server.keys);
    if member.role == Role::Primary && keys > 0 && !p.d.consent.lose_data {
        let carried = |w: &Waiting| matches!(w, Waiting::StrayKeys { node: n, .. } if *n == node);
        if !p.waiting.iter().any(carried) {
            let id = node.short();
            let why = format!("{id} can't leave yet: it holds {keys} keys that are no copy");
            refuse(p, why);
        }
        return;
    }
    // What it has beyond its primary is the last of it, until it has taken that one's copy.
    let behind = |v: &NodeView| !in_sync(p.o, v) && v.server.keys > 0;
    if p.o.view_of(node).is_some_and(behind) && !p.d.consent.lose_data {
        let why = format!("{} can't leave: it is not in sync yet", node.short());
        return refuse(p, why);
    }
    let Some(gone) = Gone::asked_to_leave(p.d, p.o, node) else {
        return refuse(p, format!("{} can't leave: it owns slots", node.short()));
    };
    let drains = safety::drains_for(p.o, p.l, node).filter(|_| p.o.view_of(node).is_some());
    if let Some(for_ms) = drains {
        return p.wait(Waiting::Drains { node, for_ms });
    }
    forget_everywhere(p, &gone, &Reason::Asked);
    if let Some(proof) = Unburdened::prove(p.o, node).filter(|_| !alone) {
        let requires = before_reset(p.o, node);
        p.act_if(Action::Reset { node: proof }, Reason::Asked, requires);
    }
}

fn refuse(p: &mut Draft<'_>, why: String) {
    p.wait(Waiting::Request { why: vec![why] });
}
