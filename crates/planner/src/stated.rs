//! A primary that a person says is dead, though nothing proves it: a replica that is asked for by name takes its place, as
//! long as the primary answers nobody.

use shardwright_topology::{NodeId, Observed, Seen, Server};

use crate::refused::{answers_others, linked_by};
use crate::{Desired, Manner, Request};

/// Whether a person asked for a replica of this primary in its place, said that the primary is dead, and nothing speaks
/// against it.
pub(crate) fn is_stated_dead(d: &Desired, o: &Observed, primary: NodeId) -> bool {
    let Some(Request::Promote { node, manner }) = &d.request else {
        return false;
    };
    let past = matches!(manner, Manner::Force | Manner::Takeover);
    let replica = o.member(*node).is_some_and(|m| m.primary == Some(primary));
    d.consent.primary_is_dead && past && replica && why_alive(o, primary).is_none()
}

/// What shows that a node lives, if anything does.
pub(crate) fn why_alive(o: &Observed, node: NodeId) -> Option<String> {
    if o.view_of(node).is_some() {
        return Some("it is reachable".to_owned());
    }
    if o.has_duplicate(node) {
        return Some("two processes answer as this node".to_owned());
    }
    let its = |s: &&Server| s.recorded_id == Some(node);
    let recorded = o.servers().values().filter(its);
    for server in recorded.chain(o.server_of(node)) {
        if let Seen::Unknown(why) = &server.view
            && why.is_an_answer()
        {
            return Some(format!("its server answers: {why}"));
        }
    }
    answers_others(o, node).then(|| {
        format!(
            "{} reachable node(s) have a bus link to it and do not suspect it; where it was lost just now, try again after cluster-node-timeout",
            linked_by(o, node)
        )
    })
}
