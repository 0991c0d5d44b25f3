//! Servers that were not heard although their process lives: what shows it, and what mends it.

use shardwright_topology::{
    Address, Health, Member, NodeId, Observed, Role, Seen, Server, ServerName, Source, Why,
};

use super::ProblemKind;
use crate::ForeignNodesMet;
use crate::refused::{answers_others, linked_by};

/// What keeps a server from being heard.
pub(super) fn unheard(o: &Observed, server: &Server, why: &Why) -> ProblemKind {
    let name = server.name.clone();
    let of = o.views().count();
    let node = server.id().filter(|_| server.process.death().is_none());
    let at = server.address.known();
    match (why, node, at) {
        (Why::Refused, Some(node), Some(at)) if linked_by(o, node) > 0 => ProblemKind::Refuses {
            server: name,
            by: linked_by(o, node),
            of,
            address: at.clone(),
            bus_port: bus_port(o, node),
        },
        (Why::TimedOut, Some(node), _) if answers_others(o, node) && o.view_of(node).is_none() => {
            ProblemKind::Unanswered { server: name }
        }
        (Why::Busy(_), _, Some(at)) => ProblemKind::Busy {
            server: name,
            address: at.clone(),
        },
        _ => ProblemKind::Unheard {
            server: name,
            why: why.clone(),
            replaced: is_replaced(o, server),
        },
    }
}

/// Whether a server's node was a primary, and lost its slots to others while it was away.
fn is_replaced(o: &Observed, server: &Server) -> bool {
    let member = server.id().and_then(|id| o.member(id));
    member.is_some_and(|m| {
        let failed = o.beliefs(m.id).any(|(_, row)| row.health == Health::Failed);
        m.source == Source::Others && m.role == Role::Primary && m.slots.is_empty() && failed
    })
}

/// Whether the process of a node that was not heard lives all the same: it answered something, or it answers others.
pub(super) fn lives(o: &Observed, node: NodeId) -> bool {
    let Some(server) = o.server_of(node) else {
        return answers_others(o, node);
    };
    if server.process.death().is_some() {
        return false;
    }
    match &server.view {
        Seen::Known(_) => true,
        Seen::Unknown(Why::Refused) => linked_by(o, node) > 0,
        Seen::Unknown(why) => why.is_an_answer() || answers_others(o, node),
    }
}

/// What a primary that was not heard is.
pub(super) fn state(proved: bool, lives: bool) -> &'static str {
    match (proved, lives) {
        (true, _) => "dead",
        (false, true) => "not heard, but lives",
        (false, false) => "silent",
    }
}

pub(super) fn refuses(server: &ServerName, by: usize, of: usize, address: &Address) -> String {
    format!(
        "{by} of {of} nodes have a bus link to {server}, but nothing listens at its announced address {address}: announced port wrong?"
    )
}

pub(super) fn busy(server: &ServerName) -> String {
    format!("{server} is busy with a script or a function, and answers nothing else")
}

/// The bus port at which others reach the node.
fn bus_port(o: &Observed, node: NodeId) -> Option<u16> {
    let linked = o.beliefs(node).find(|(id, row)| *id != node && row.link_up);
    linked.map(|(_, row)| row.address.bus_port)
}

/// What mends an address that refuses clients while the bus link is up. The client port that goes with the bus port is
/// the likely one where it is not the one announced.
pub(super) fn open_port(address: &Address, bus_port: Option<u16>) -> String {
    let usual = bus_port.and_then(|bus| bus.checked_sub(Address::BUS_OFFSET));
    match usual.filter(|port| *port != address.port && *port != 0) {
        Some(port) => format!(
            "set the port that it announces, if it listens at {port}: redis-cli -h {host} -p {port} CONFIG SET cluster-announce-port {port}; or open {address} to clients",
            host = address.host
        ),
        None => format!(
            "open {address} to clients (a firewall, a port that is not mapped), or set cluster-announce-ip and cluster-announce-port to where it listens"
        ),
    }
}

/// Another node answers where a node is listed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Taken {
    /// Where.
    pub at: Address,
    /// Who answers there.
    pub by: NodeId,
    /// Whether any node has a bus link to the one that is listed: then it lives.
    pub linked: bool,
}

/// Who answers where a node is listed that was not heard.
pub(super) fn taken(o: &Observed, listed: &Member) -> Option<Taken> {
    let there = |s: &&Server| {
        s.address
            .known()
            .is_some_and(|at| at.same_socket(&listed.address))
    };
    let by = o.servers().values().find(there)?.view.known()?.id;
    (by != listed.id).then(|| Taken {
        at: listed.address.clone(),
        by,
        linked: linked_by(o, listed.id) > 0,
    })
}

/// What mends an address at which another node answers.
pub(super) fn let_announce(taken: &Taken, target: &str, node: NodeId) -> String {
    let announce =
        "let it announce where it listens (CONFIG SET cluster-announce-port, cluster-announce-ip)";
    if taken.linked {
        return format!("{announce}; leave it running");
    }
    format!("if it runs: {announce}; if it is gone: shardwright remove-node {target} {node}")
}

/// What a command to nodes needs that are none of ours to log in at.
const LOG_IN: &str = "where a password is set, with SHARDWRIGHT_PASSWORD or --askpass";

/// What parts two clusters that met: ours forget the others by themselves, where somebody manages this one.
pub(super) fn part(met: &ForeignNodesMet, target: &str) -> String {
    if !met.unremembered.is_empty() {
        return give_back(met, target);
    }
    // Whoever of them still knows a node of ours that takes slots back from it follows that node, and copies it.
    let ids: Vec<String> = met.ours.iter().map(ToString::to_string).collect();
    let at: Vec<String> = met.nodes.values().map(ToString::to_string).collect();
    let (ids, at) = (ids.join(" "), at.join(" "));
    let part = format!(
        "let the other cluster forget ours, or its data may be replaced by ours: for at in {at}; do for id in {ids}; do redis-cli -u redis://$at CLUSTER FORGET $id; done; done; then: shardwright fix {target}"
    );
    let part = format!(
        "{part}; where nodes of the other cluster do not list each other any more, let them meet again after 60 s (CLUSTER MEET)"
    );
    if met.replaced.is_empty() {
        return part;
    }
    format!("{part}; then restore what of ours was replaced")
}

/// What may be done about slots of a foreign node of which nobody remembers whose they were: it is not known whether their
/// keys are anywhere else.
fn give_back(met: &ForeignNodesMet, target: &str) -> String {
    let back = met.unremembered.iter().filter_map(|(from, owned)| {
        let (at, to) = (met.nodes.get(from)?, owned.to?);
        let slots = owned.slots.count();
        Some(format!(
            "shardwright reshard {at} --from {from} --to {to} --slots {slots}"
        ))
    });
    let back: Vec<String> = back.collect();
    let give_up =
        format!("give them up with their keys: shardwright fix {target} --accept-data-loss");
    if back.is_empty() {
        return give_up;
    }
    format!(
        "move the slots back with their keys ({LOG_IN}): {}; or {give_up}",
        back.join("; then: ")
    )
}

/// What ends a script that runs for too long. One that has written can only be waited for.
pub(super) fn end_script(address: &Address) -> String {
    let (host, port) = (&address.host, address.port);
    format!(
        "wait until it ends, or end it: redis-cli -h {host} -p {port} SCRIPT KILL (of a function: FUNCTION KILL; one that has written can only be waited for); do not start it again"
    )
}

pub(super) fn let_elect(address: &Address) -> String {
    let (host, port) = (&address.host, address.port);
    format!(
        "unless it is meant so: redis-cli -h {host} -p {port} CONFIG SET cluster-replica-no-failover no"
    )
}
