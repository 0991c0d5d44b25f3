//! Nodes of another cluster that was met by mistake: shards whose slots they took have them again, and all of ours forget
//! them, in the first pass that sees them.

use std::collections::{BTreeMap, BTreeSet};

use shardwright_topology::{Member, NodeId, NodeView, Role, Source};

use crate::draft::Draft;
use crate::evidence::{Gone, OnlyForeignData, OwnData, has_foreign_data, may_part};
use crate::rules::replicas::replicate;
use crate::{Action, Authority, ForeignNodesMet, Precondition, Reason, Shape, Waiting, safety};

/// Parts our nodes from those of another cluster, and says who they are and what they took.
///
/// A node that follows one of them owns its shard's slots again first: the engine lets no node forget whom it follows. The
/// others, whose table gives the slots to nobody once the foreign node is forgotten, are told of it by its new epoch. What
/// nobody owns then, [`super::uncovered`] gives to those who hold the keys, or owned it last. Where one owns slots of which
/// nobody remembers that they were ours, nothing is done without consent: slots may have been moved to it on purpose, and
/// it would be left alone with the only copy of their keys.
pub(crate) fn part(p: &mut Draft<'_>) {
    if p.foreign.is_empty() {
        return name_losses(p);
    }
    // All of them or none: one that stays would tell ours of the others again.
    if p.foreign.iter().all(|node| may_part(p.d, p.o, *node)) {
        let taken_back = take_back(p);
        if !taken_back.is_empty() || !begin_anew(p) {
            follow_ours(p, &taken_back);
            forget(p);
        }
    }
    let met = ForeignNodesMet::of(p.o, &p.foreign);
    p.wait(Waiting::ForeignNodesMet(Box::new(met)));
}

/// Says what was lost to foreign nodes that are forgotten, until every slot is served again: keys may have been deleted
/// after the look by which these were forgotten.
fn name_losses(p: &mut Draft<'_>) {
    let managed = p.d.authority == Authority::Managed;
    if !managed || p.o.met.is_empty() || safety::all_served(p.o) {
        return;
    }
    let met = ForeignNodesMet::of(p.o, &p.foreign);
    if !met.replaced.is_empty() {
        p.wait(Waiting::ForeignNodesMet(Box::new(met)));
    }
}

/// Where every node of ours follows a foreign node, directly or by another of ours, nobody is left whom they could follow
/// instead, and the engine lets none of them forget whom it follows. Then as many as there are to be shards, which nobody
/// follows and which have nothing but foreign data, become new nodes without any. One at least stays what it is: where all
/// are blank, nothing would tell that there was a cluster. Returns whether any does.
fn begin_anew(p: &mut Draft<'_>) -> bool {
    let answers = |m: &&Member| m.source == Source::Itself && p.is_ours(m.id);
    let ours = || p.o.members().values().filter(answers);
    let silent = p.o.servers().values().any(|s| s.view.known().is_none());
    let unsure = silent && !p.d.consent.lose_data;
    let leads = |v: &NodeView| {
        let primary = v.own().is_some_and(|own| own.role == Role::Primary);
        primary && (p.is_ours(v.id) || !v.is_blank())
    };
    if unsure || p.o.views().any(|(_, v)| leads(v)) {
        return false;
    }
    let wanted = match p.d.shape {
        Shape::Declared { shards, .. } => usize::from(shards),
        Shape::AsFound => 1,
    };
    let followed = |id: NodeId| p.o.replicas_of(id).any(|m| p.belongs(m.id));
    let alone = ours().map(|m| m.id).filter(|id| !followed(*id));
    let proofs = alone.filter_map(|id| OnlyForeignData::prove(p.d, p.o, id));
    let most = wanted.min(ours().count().saturating_sub(1));
    let chosen: Vec<OnlyForeignData> = proofs.take(most).collect();
    for proof in &chosen {
        let (node, primary) = (proof.node(), proof.primary());
        let requires = vec![Precondition::IsReplicaOf { node, primary }];
        let node = proof.unburdened();
        p.act_if(Action::Reset { node }, Reason::NothingOfOurs, requires);
    }
    !chosen.is_empty()
}

/// Returns the foreign nodes from which one of ours may take slots back.
fn take_back(p: &mut Draft<'_>) -> BTreeSet<NodeId> {
    let mut taken_back = BTreeSet::new();
    for from in p.foreign.clone() {
        let Some(own) = OwnData::best(p.d, p.o, from) else {
            continue;
        };
        taken_back.insert(from);
        if p.is_ours(own.node()) {
            let requires = own.requires();
            // Its new epoch is greater: what still knows it on the other side gives way, and copies it.
            let node = own.node();
            let because = Reason::SlotsTaken { node, by: from };
            p.act_if(Action::TakeBack { own }, because, requires);
        }
    }
    taken_back
}

/// Whoever has a foreign node's data, and nothing of its own, follows a primary of ours again: as long as it follows a
/// foreign node, it tells ours of that one. Where another of its shard takes the slots back, the engine lets it follow that.
fn follow_ours(p: &mut Draft<'_>, taken_back: &BTreeSet<NodeId>) {
    let followed = |view: &NodeView| {
        let primary = view.own()?.primary?;
        let foreign = p.foreign.contains(&primary) && p.is_ours(view.id);
        let stays = taken_back.contains(&primary) || !has_foreign_data(p.o, view);
        (foreign && !stays).then_some(view.id)
    };
    let views = p.o.views();
    let followers: Vec<NodeId> = views.filter_map(|(_, view)| followed(view)).collect();
    if followers.is_empty() {
        return;
    }
    let answers = |m: &&Member| m.source == Source::Itself && p.is_ours(m.id);
    let primaries = p.o.voters().filter(answers);
    let mut replicas: BTreeMap<NodeId, usize> = primaries.map(|m| (m.id, 0)).collect();
    if replicas.is_empty() {
        // Those that began anew have no slots yet.
        let primaries = p.o.members().values().filter(answers);
        let primaries = primaries.filter(|m| m.role == Role::Primary);
        replicas = primaries.map(|m| (m.id, 0)).collect();
    }
    for of in p.o.members().values().filter_map(|m| m.primary) {
        if let Some(count) = replicas.get_mut(&of) {
            *count += 1;
        }
    }
    for node in followers {
        let fits = |pair: &(&NodeId, &usize)| safety::can_copy(p.o, node, *pair.0);
        let fewest = replicas.iter().filter(fits);
        let fewest = fewest.min_by_key(|(id, count)| (**count, **id));
        if let Some(primary) = fewest.map(|(id, _)| *id) {
            replicate(p, node, primary, Reason::ForeignNode);
            if let Some(count) = replicas.get_mut(&primary) {
                *count += 1;
            }
        }
    }
}

/// Each by all of ours that list it: who does not forget it would tell the others of it again. Two large clusters would make
/// too many steps for one pass: those that own slots come first.
fn forget(p: &mut Draft<'_>) {
    let leaves = |a: &Action| matches!(a, Action::TakeBack { .. } | Action::Replicate { .. });
    let left = p.steps.iter().filter(|s| leaves(&s.action));
    let left: BTreeSet<NodeId> = left.filter_map(|s| s.action.at()).collect();
    let mut foreign: Vec<NodeId> = p.foreign.iter().copied().collect();
    foreign.sort_by_key(|id| p.o.member(*id).is_none_or(|m| m.slots.is_empty()));
    let mut steps = 0;
    for node in foreign {
        if steps >= p.l.meets_per_pass_max {
            break;
        }
        let Some(gone) = Gone::prove(p.d, p.o, node) else {
            continue;
        };
        // The engine refuses it of whom it follows.
        let follows = |id: &NodeId| {
            let own = p.o.view_of(*id).and_then(NodeView::own);
            own.is_some_and(|own| own.primary == Some(node)) && !left.contains(id)
        };
        let tellers: Vec<NodeId> =
            p.o.beliefs(node)
                .map(|(speaker, _)| speaker)
                .filter(|id| p.belongs(*id) && !follows(id))
                .collect();
        steps += tellers.len();
        for teller in tellers {
            let gone = gone.clone();
            p.act(Action::Forget { teller, gone }, Reason::ForeignNode);
        }
    }
}
