//! Two processes with one node id: looked for wherever others say that a node that answers is.
//!
//! A copied disk makes a second process with the id of the first. The others take it for the first at a new address,
//! and change their minds with every ping. So a table that has a living node elsewhere is either late, or right about
//! another process: whoever answers there tells. Where all tables have the same address at that moment, links that are
//! made anew again and again show that there are two ([`remade`]), and then the tables are read until they change. Only two processes that answered at one time are called so: a node that
//! was started again has another run too.

mod remade;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use shardwright_topology::{
    Address, DuplicateId, Flags, Host, Instance, NodeId, NodeView, Observed, Process, Seen,
    ServerName,
};
use tokio::time::timeout;

use crate::{Links, Seat, hear};
use remade::Remade;

/// The time of an address that only others tell of.
const PROBE_LIMIT: Duration = Duration::from_secs(1);
/// How long an address at which no second process answered is not asked again.
const IN_VAIN_FOR: Duration = Duration::from_secs(10);
/// How many addresses are asked in one look.
const PROBES_MAX: usize = 32;

/// Looks for second processes.
#[derive(Debug, Default)]
pub(crate) struct Search {
    /// Addresses at which no second process answered, and when.
    in_vain: BTreeMap<Address, Instant>,
    /// When links were asked for last.
    links_asked: Option<Instant>,
}

/// A process that answered: what it said, and at which server and address.
struct Answer<'a> {
    name: &'a ServerName,
    address: &'a Address,
    view: &'a NodeView,
    /// Whether its runtime knows that it is this process that lives there.
    known_to_live: bool,
}

impl Search {
    /// The node ids as which two processes answer now, of all that were heard in this look; `known` are those that were
    /// found before, and are asked again. A whole look asks for the links of the bus too.
    pub(crate) async fn look(
        &mut self,
        links: &Links,
        heard: &[(Seat, Seen<NodeView>)],
        known: &[DuplicateId],
        whole: bool,
    ) -> Vec<DuplicateId> {
        let mut first: BTreeMap<NodeId, Answer<'_>> = BTreeMap::new();
        let mut pairs: Vec<(NodeId, Instance)> = Vec::new();
        for (seat, view) in heard {
            let (Seen::Known(view), Seen::Known(address)) = (view, &seat.address) else {
                continue;
            };
            match first.get(&view.id) {
                Some(one) if one.view.server.run_id == view.server.run_id => {}
                Some(_) => pairs.push((view.id, Instance::at(&seat.name, Some(address), view))),
                None => {
                    let one = Answer {
                        name: &seat.name,
                        address,
                        view,
                        known_to_live: seat.process == Process::Running,
                    };
                    first.insert(view.id, one);
                }
            }
        }
        let places = self.elsewhere(heard, &first, known).into_iter();
        let probes = places.map(|(address, node)| async move {
            let answer = probe(links, &address, node).await;
            (address, node, answer)
        });
        for (address, node, answer) in join_all(probes).await {
            let other =
                answer.filter(|instance| first[&node].view.server.run_id != instance.run_id);
            if let Some(instance) = other {
                pairs.push((node, instance));
            } else {
                self.in_vain.insert(address, Instant::now());
            }
        }
        let found = both_answer(links, &first, pairs).await;
        let recent = |at: Instant| at.elapsed() < remade::ASKED_FOR;
        if !whole || !found.is_empty() || self.links_asked.is_some_and(recent) {
            return found;
        }
        self.links_asked = Some(Instant::now());
        by_links(links, heard, &first).await
    }

    /// Where others have a node that answers elsewhere; and where a second process was found before. An address that was
    /// asked in this look is not asked again. Where the runtime knows which process lives, only a link that is up tells of
    /// another; where it does not, each does: the link of whoever changed its mind just now is not up yet.
    fn elsewhere(
        &mut self,
        heard: &[(Seat, Seen<NodeView>)],
        first: &BTreeMap<NodeId, Answer<'_>>,
        known: &[DuplicateId],
    ) -> BTreeMap<Address, NodeId> {
        self.in_vain.retain(|_, at| at.elapsed() < IN_VAIN_FOR);
        let asked: BTreeSet<(&Host, u16)> = heard
            .iter()
            .filter_map(|(seat, _)| seat.address.known().map(|a| (&a.host, a.port)))
            .collect();
        let mut out = BTreeMap::new();
        for row in heard
            .iter()
            .filter_map(|(_, v)| v.known())
            .flat_map(NodeView::peers)
        {
            let linked = row.link_up || first.get(&row.id).is_some_and(|one| !one.known_to_live);
            let told = linked && !row.flags.has(Flags::NOADDR) && row.address.port != 0;
            let new = !asked.contains(&(&row.address.host, row.address.port))
                && !self.in_vain.contains_key(&row.address);
            if told && new && row.address.host.ip().is_some() && first.contains_key(&row.id) {
                out.insert(row.address.clone(), row.id);
            }
            if out.len() >= PROBES_MAX {
                break;
            }
        }
        for before in known.iter().filter(|d| first.contains_key(&d.node)) {
            let both = [&before.first.address, &before.second.address];
            out.extend(both.into_iter().flatten().map(|a| (a.clone(), before.node)));
        }
        out
    }
}

/// The first node whose links are made anew again and again and as which two processes answer, if any.
async fn by_links(
    links: &Links,
    heard: &[(Seat, Seen<NodeView>)],
    first: &BTreeMap<NodeId, Answer<'_>>,
) -> Vec<DuplicateId> {
    let Some(mut remade) = Remade::look(links, heard).await else {
        return Vec::new();
    };
    let asked = heard.iter().filter_map(|(seat, _)| seat.address.known());
    let mut asked: BTreeSet<(Host, u16)> = asked.map(|a| (a.host.clone(), a.port)).collect();
    while let Some(places) = remade.next().await {
        for (address, node) in places {
            let Some(one) = first.get(&node).filter(|_| address.host.ip().is_some()) else {
                continue;
            };
            if !asked.insert((address.host.clone(), address.port)) {
                continue;
            }
            let other = probe(links, &address, node).await;
            let other = other.filter(|other| other.run_id != one.view.server.run_id);
            let pairs = other.map(|other| (node, other)).into_iter().collect();
            let found = both_answer(links, first, pairs).await;
            if !found.is_empty() {
                return found;
            }
        }
    }
    Vec::new()
}

/// The node ids as which another process answers a connection of its own, at the very address of the first: one that
/// leads to two servers in turn.
pub(crate) async fn at_their_addresses(links: &Links, o: &Observed) -> Vec<DuplicateId> {
    let mut first: BTreeMap<NodeId, Answer<'_>> = BTreeMap::new();
    for (server, view) in o.views() {
        if let Seen::Known(address) = &server.address {
            let one = Answer {
                name: &server.name,
                address,
                view,
                known_to_live: server.process == Process::Running,
            };
            first.insert(view.id, one);
        }
    }
    let probes = first.iter().map(|(id, one)| async move {
        let other = probe(links, one.address, *id).await?;
        (other.run_id != one.view.server.run_id).then_some((*id, other))
    });
    let pairs = join_all(probes).await.into_iter().flatten().collect();
    both_answer(links, &first, pairs).await
}

/// Who answers as this node at an address, by a connection of its own.
async fn probe(links: &Links, address: &Address, node: NodeId) -> Option<Instance> {
    let ask = async { links.apart(address, 0).await?.observe().await };
    let raw = timeout(PROBE_LIMIT, ask).await.ok()?.ok()?;
    let view = raw.parse().ok().filter(|view| view.id == node)?;
    let name = ServerName(address.to_string());
    Some(Instance::at(&name, Some(address), &view))
}

/// Of those that seem to be two: those whose first process answers once more after the second did.
async fn both_answer(
    links: &Links,
    first: &BTreeMap<NodeId, Answer<'_>>,
    pairs: Vec<(NodeId, Instance)>,
) -> Vec<DuplicateId> {
    let mut found: Vec<DuplicateId> = Vec::new();
    for (node, second) in pairs {
        let Some(one) = first
            .get(&node)
            .filter(|_| found.iter().all(|d| d.node != node))
        else {
            continue;
        };
        let again = hear::one(links, one.name, one.address).await;
        if again
            .known()
            .is_some_and(|v| v.id == node && v.server.run_id == one.view.server.run_id)
        {
            let first = Instance::at(one.name, Some(one.address), one.view);
            found.push(DuplicateId {
                node,
                first,
                second,
            });
        }
    }
    found
}
