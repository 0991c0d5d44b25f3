//! Everyone knows everyone, at the right address and in the right role: MEET, all at once, each as it appears.

use std::collections::{BTreeMap, BTreeSet};

use shardwright_topology::{
    Disagreement, Dissent, NodeId, NodeView, Observed, Role, SlotSet, Source,
};

use crate::draft::Draft;
use crate::evidence::LiveAt;
use crate::rules::open_slots::{imports, may_raise_epoch};
use crate::{Action, Precondition, Reason};

/// Tells every node of every other that it does not know, or knows wrongly.
///
/// MEET repairs an address at the one who is told, and brings role and slots of the teller to the one it is told
/// about: so for an old belief the node that changed is made to greet the one that has not noticed.
pub(crate) fn the_cluster(p: &mut Draft<'_>) {
    let mut greetings: BTreeMap<(NodeId, NodeId), Reason> = BTreeMap::new();
    for g in p.o.disagreements() {
        // A thousand new nodes differ a million times: those that are left out come in the next pass.
        if greetings.len() >= p.l.meets_per_pass_max {
            break;
        }
        if !p.is_ours(g.speaker) || !p.is_ours(g.about) {
            continue;
        }
        match g.dissent {
            Dissent::NotListed if greetings.contains_key(&(g.about, g.speaker)) => {}
            Dissent::NotListed => {
                greetings.insert((g.speaker, g.about), Reason::NotKnown);
            }
            Dissent::Address => {
                greetings.insert((g.speaker, g.about), Reason::AddressChanged);
            }
            // A replica of one that the speaker does not know: the greeting would say nothing new.
            Dissent::Role if follows_unknown(p.o, g.speaker, g.about) => {}
            Dissent::Role if waits_for_epoch(p, *g) => {}
            // A greeting would change nothing: see `open_slots`.
            Dissent::Slots if cannot_learn(p.o, g.speaker, g.about) => {}
            Dissent::Role | Dissent::Slots => {
                greetings
                    .entry((g.about, g.speaker))
                    .or_insert(Reason::OldBelief);
            }
            // These pass by themselves; `settle` waits for them.
            Dissent::Handshake | Dissent::Health | Dissent::Link => {}
        }
    }
    // Some greet already, to show a candidate's role.
    for step in &p.steps {
        if let Action::Meet { teller, target } = &step.action {
            greetings.remove(&(*teller, target.node()));
        }
    }
    for ((teller, about), because) in greetings.into_iter().take(p.l.meets_per_pass_max) {
        let Some(target) = LiveAt::prove(p.o, about).filter(|_| teller != about) else {
            continue;
        };
        let requires = vec![Precondition::LivesAt {
            node: about,
            address: target.address().clone(),
        }];
        p.act_if(Action::Meet { teller, target }, because, requires);
    }
}

/// The primaries whose replicas somebody holds to be primaries still, by an epoch greater than theirs.
///
/// That passes with the next word of the replica, but not always on Valkey 9.1: once a node holds such a replica to be
/// in its primary's shard, it takes all that the replica says for old, greetings too. It comes to that where the
/// replica's last word as a primary is read after its first as a replica, which came by another link.
pub(crate) fn disbelieved(o: &Observed) -> BTreeSet<NodeId> {
    let mut found = BTreeSet::new();
    for g in o.disagreements() {
        let head = o.member(g.about).and_then(|m| o.member(m.primary?));
        let Some(head) = head.filter(|m| g.dissent == Dissent::Role && !found.contains(&m.id))
        else {
            continue;
        };
        let row = o.view_of(g.speaker).and_then(|v| v.rows.get(g.about));
        if row.is_some_and(|row| row.role == Role::Primary && row.epoch > head.epoch) {
            found.insert(head.id);
        }
    }
    found
}

/// A primary whose replicas are not believed for long takes a greater epoch, by which they are. One at a time.
pub(crate) fn raise_the_disbelieved(p: &mut Draft<'_>) {
    let raises = |a: &Action| matches!(a, Action::RaiseEpoch { .. });
    if p.steps.iter().any(|s| raises(&s.action)) {
        return;
    }
    let due = |id: &NodeId| {
        let since = p.o.disbelieved.get(id);
        let long = since.is_some_and(|at| p.now.since_ms(*at) >= p.l.disbelief_max_ms);
        // Whoever claims what is another's must not win by it.
        let own = p.o.view_of(*id).and_then(NodeView::own);
        let honest = p.o.member(*id).zip(own).is_some_and(|(member, own)| {
            let more = own.slots.difference(&member.slots);
            own.role == Role::Primary && more.is_empty()
        });
        long && honest && p.is_ours(*id) && may_raise_epoch(p, *id)
    };
    if let Some(node) = disbelieved(p.o).into_iter().find(due) {
        p.act(Action::RaiseEpoch { node }, Reason::OldBelief);
    }
}

/// Whether the speaker has long taken a replica's word for old, and will until the replica's primary has a greater epoch,
/// which that can't take while it is silent.
fn waits_for_epoch(p: &Draft<'_>, g: Disagreement) -> bool {
    let head = p.o.member(g.about).and_then(|m| p.o.member(m.primary?));
    let row = p.o.view_of(g.speaker).and_then(|v| v.rows.get(g.about));
    head.zip(row).is_some_and(|(head, row)| {
        let since = p.o.disbelieved.get(&head.id);
        let long = since.is_some_and(|at| p.now.since_ms(*at) >= p.l.disbelief_max_ms);
        let doubts = row.role == Role::Primary && row.epoch > head.epoch;
        doubts && long && head.source == Source::Others
    })
}

/// Whether the speaker sees a replica as one, and lacks only its primary because it does not know that node at all.
fn follows_unknown(o: &Observed, speaker: NodeId, replica: NodeId) -> bool {
    let (Some(view), Some(member)) = (o.view_of(speaker), o.member(replica)) else {
        return false;
    };
    let row = view.rows.get(replica);
    row.is_some_and(|row| row.role == Role::Replica && row.primary.is_none())
        && member.primary.is_some_and(|id| view.rows.get(id).is_none())
}

/// Whether a greeting would not bring the speaker what it lacks of a node's slots: it lacks none (and gives the node
/// more than it claims: whoever owns the rest has to greet), or only such as it imports, or has from another with as
/// great an epoch.
fn cannot_learn(o: &Observed, speaker: NodeId, about: NodeId) -> bool {
    let (Some(view), Some(member)) = (o.view_of(speaker), o.member(about)) else {
        return false;
    };
    let Some(row) = view.rows.get(about) else {
        return false;
    };
    let lacks = member
        .slots
        .difference(&row.slots)
        .difference(&imports(view));
    let held = view
        .rows
        .iter()
        .filter(|other| other.id != about && other.epoch >= member.epoch)
        .fold(SlotSet::empty(), |held, other| held.union(&other.slots));
    lacks.difference(&held).is_empty()
}
