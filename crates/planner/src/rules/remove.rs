//! Servers that are too many for the declared shape go: their nodes leave the cluster, and once one is nothing any more,
//! so does its server, with or after those that come behind it. What slots it has are moved by [`super::shape`], or by a switchover.

use shardwright_topology::{NodeView, Role, Server};

use crate::draft::Draft;
use crate::evidence::{Gone, Unburdened};
use crate::ours::is_fresh;
use crate::rules::forget::forget_everywhere;
use crate::rules::leave;
use crate::safety::{self, NoRemove};
use crate::surplus::surplus;
use crate::{Action, Precondition, Reason, Shape, Standing, Waiting};

/// Takes the next step for each of them, when there is nothing more urgent to do; and says why the others stay.
pub(crate) fn the_surplus(p: &mut Draft<'_>) {
    let busy = !p.steps.is_empty();
    for server in surplus(p.d, p.o) {
        let why = match server.view.known() {
            None => safety::why_not_remove(p.d, p.o, server),
            Some(_) if busy => vec![NoRemove::NotItsTurn],
            Some(view) if is_nothing(p, view) => remove(p, server, view),
            Some(view) => retire(p, server, view),
        };
        if !why.is_empty() {
            wait(p, server, why);
        }
    }
}

/// Whether a node knows nobody, and nobody knows it: greetings may be under way.
fn is_nothing(p: &Draft<'_>, view: &NodeView) -> bool {
    is_fresh(view) && p.o.beliefs(view.id).all(|(speaker, _)| speaker == view.id)
}

fn remove(p: &mut Draft<'_>, server: &Server, view: &NodeView) -> Vec<NoRemove> {
    let why = safety::why_not_remove(p.d, p.o, server);
    if why.is_empty() {
        let action = Action::RemoveServer {
            server: server.name.clone(),
        };
        let requires = vec![Precondition::IsBlank { node: view.id }];
        p.act_if(action, Reason::NotWanted, requires);
    }
    why
}

fn retire(p: &mut Draft<'_>, server: &Server, view: &NodeView) -> Vec<NoRemove> {
    let why = safety::why_not_retire(p.d, p.o, server);
    if !why.is_empty() {
        hand_over(p, view);
        return why;
    }
    let leaves = p.standings.get(&server.name) == Some(&Standing::Leaving);
    let Some(gone) = Gone::not_wanted(p.d, p.o, view.id).filter(|_| leaves) else {
        return vec![NoRemove::NotItsTurn];
    };
    if let Some(for_ms) = safety::drains_for(p.o, p.l, view.id) {
        return vec![NoRemove::Drains { for_ms }];
    }
    if let Some(speaker) = leave::greeter_of(p.o, view.id) {
        let about = view.id;
        p.wait(Waiting::Views { speaker, about });
        return Vec::new();
    }
    forget_everywhere(p, &gone, &Reason::NotWanted);
    let alone = view.peers().next().is_none();
    if let Some(node) = Unburdened::prove(p.o, view.id).filter(|_| !alone) {
        let requires = leave::before_reset(p.o, view.id);
        p.act_if(Action::Reset { node }, Reason::NotWanted, requires);
    }
    Vec::new()
}

/// A primary gives its role to a replica that stays. Where there are more shards than declared, its slots have to go
/// to other shards instead.
fn hand_over(p: &mut Draft<'_>, view: &NodeView) {
    let Shape::Declared { shards, .. } = p.d.shape else {
        return;
    };
    let primary = p.o.member(view.id).filter(|m| m.role == Role::Primary);
    let owns = primary.is_some_and(|m| !m.slots.is_empty()) && p.is_ours(view.id);
    if owns && p.o.voters().count() <= usize::from(shards) {
        leave::hand_over_to_those_who_stay(p, view.id);
    }
}

fn wait(p: &mut Draft<'_>, server: &Server, why: Vec<NoRemove>) {
    p.wait(Waiting::Surplus {
        server: server.name.clone(),
        why,
    });
}
