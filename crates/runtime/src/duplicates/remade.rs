//! Bus links that are made anew again and again: the sign of a second process with one node id.
//!
//! An engine keeps one link from each node. So of two processes with one id each takes the other's place at every node,
//! and both connect anew for as long as both live (measured on primaries and replicas): with each tick on Redis 7.0 and 7.4
//! and Valkey 8.0, where no such link was older than 150 ms at anybody, and after a twentieth of node-timeout on Valkey 9.1.
//! A table shows one of the two addresses at a time, and mostly the same at all nodes; but it changes with each link, and
//! so whoever looks often sees both.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use shardwright_engine::{Client, InboundLinks};
use shardwright_topology::wire::parse_nodes;
use shardwright_topology::{Address, Flags, NodeId, NodeView, Rows, Seen};
use tokio::time::sleep;

use crate::{Links, Seat};

/// The setting by which Valkey 9.1 rests between two attempts to connect, what it is where it is not told, and what it
/// counts for at most, in milliseconds.
const NODE_TIMEOUT: &str = "cluster-node-timeout";
const NODE_TIMEOUT_DEFAULT_MS: u64 = 15_000;
const NODE_TIMEOUT_MAX_MS: u64 = 60_000;
/// An engine's tick, in milliseconds.
const TICK_MS: u64 = 100;
/// How much later an engine of a busy machine may connect, in milliseconds.
const SLACK_MS: u64 = 250;
/// How long both addresses are looked for at least, in milliseconds.
const SEARCH_MIN_MS: u64 = 2_000;
/// The time between two looks, each in turn: no multiple of an engine's tick, or the same moment of it is seen each time.
const PAUSES_MS: [u64; 3] = [3, 7, 13];
/// How many nodes are asked again.
const OBSERVERS_MAX: usize = 8;
/// How long after all links were asked for they are not asked for again.
pub(super) const ASKED_FOR: Duration = Duration::from_millis(500);

/// A node that was asked for its links.
struct Observer {
    id: NodeId,
    client: Client,
    links: InboundLinks,
    node_timeout_ms: Option<u64>,
}

/// Nodes whose links are made anew again and again, and who is asked where they are.
pub(super) struct Remade {
    suspects: BTreeSet<NodeId>,
    observers: Vec<Observer>,
    /// How long a link of two processes lives at most.
    lives: Duration,
    until: Instant,
    changed: Instant,
    round: usize,
}

impl Remade {
    /// Asks all that were heard in one round trip each. `None` where every link is older than one of two processes lives, or nobody tells.
    pub(super) async fn look(links: &Links, heard: &[(Seat, Seen<NodeView>)]) -> Option<Self> {
        let asked = heard.iter().map(|(seat, view)| async move {
            let (id, address) = (view.known()?.id, seat.address.known()?);
            let client = links.client(&seat.name, address).await.ok()?;
            let (links, told) = join(client.inbound_links(), client.config_get(NODE_TIMEOUT)).await;
            let told = told.ok().and_then(|pairs| pairs.first()?.1.parse().ok());
            Some(Observer {
                id,
                client,
                links: links.ok()??,
                node_timeout_ms: told,
            })
        });
        let mut observers: Vec<Observer> = join_all(asked).await.into_iter().flatten().collect();
        let told = observers.iter().filter_map(|o| o.node_timeout_ms).max();
        let node_timeout_ms = told.unwrap_or(NODE_TIMEOUT_DEFAULT_MS);
        let lives_ms = TICK_MS.max(node_timeout_ms.min(NODE_TIMEOUT_MAX_MS) / 20) + SLACK_MS;
        let told = observers.iter().map(|o| (o.id, &o.links));
        let suspects = suspects(&told.collect::<Vec<_>>(), lives_ms);
        observers.retain(|o| suspects.iter().any(|id| *id != o.id));
        observers.truncate(OBSERVERS_MAX);
        let now = Instant::now();
        let search_ms = SEARCH_MIN_MS.max(lives_ms.saturating_mul(3));
        (!suspects.is_empty()).then(|| Self {
            suspects,
            observers,
            lives: Duration::from_millis(lives_ms),
            until: now + Duration::from_millis(search_ms),
            changed: now,
            round: 0,
        })
    }

    /// Where the tables have the suspects now. `None` once their links stay, or the time is up.
    pub(super) async fn next(&mut self) -> Option<BTreeSet<(Address, NodeId)>> {
        let now = Instant::now();
        if now >= self.until || now.duration_since(self.changed) >= self.lives {
            return None;
        }
        sleep(Duration::from_millis(
            PAUSES_MS[self.round % PAUSES_MS.len()],
        ))
        .await;
        self.round += 1;
        let suspects = &self.suspects;
        let asked = self.observers.iter_mut().map(|o| async move {
            let (nodes, links) = join(o.client.cluster_nodes(), o.client.inbound_links()).await;
            let mut changed = false;
            if let Ok(Some(links)) = links {
                changed = suspects
                    .iter()
                    .any(|id| links.made.get(id) != o.links.made.get(id));
                o.links = links;
            }
            let rows = nodes.ok().and_then(|text| parse_nodes(&text).ok());
            (changed, rows.map(|rows| places(&rows, suspects)))
        });
        let mut out = BTreeSet::new();
        for (changed, places) in join_all(asked).await {
            if changed {
                self.changed = Instant::now();
            }
            out.extend(places.into_iter().flatten());
        }
        Some(out)
    }
}

/// Those whose links are young at most of the others: a node that was cut off by itself is young at all of them, but
/// everybody's links are young at one that was.
fn suspects(told: &[(NodeId, &InboundLinks)], lives_ms: u64) -> BTreeSet<NodeId> {
    let mut young: BTreeMap<NodeId, usize> = BTreeMap::new();
    for (by, links) in told {
        for (id, made) in &links.made {
            if links.now_ms.saturating_sub(*made) < lives_ms {
                *young.entry(*id).or_default() += 1;
            }
        }
    }
    let others = |id: NodeId| told.iter().filter(|(by, _)| *by != id).count();
    let most = young.into_iter().filter(|(id, n)| n * 2 > others(*id));
    most.map(|(id, _)| id).collect()
}

/// Where a table has these nodes.
fn places(rows: &Rows, whose: &BTreeSet<NodeId>) -> Vec<(Address, NodeId)> {
    let listed = rows.iter().filter(|row| whose.contains(&row.id));
    let listed = listed.filter(|row| !row.flags.has(Flags::NOADDR) && row.address.port != 0);
    listed.map(|row| (row.address.clone(), row.id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_suspect_by_most_of_the_others() {
        let [a, b, c] =
            ["a", "b", "c"].map(|s| NodeId::parse(s.repeat(40).as_bytes()).expect("an id"));
        let now_ms = 100_000;
        let links = |made: &[(NodeId, u64)]| InboundLinks {
            made: made.iter().copied().collect(),
            now_ms,
        };
        let lives_ms = 350;
        let (young, old) = (now_ms - 90, now_ms - lives_ms);
        // Two processes take turns as `a`: its links are young, and those of others to it.
        let at = [
            (a, links(&[(b, young), (c, old)])),
            (b, links(&[(a, young), (c, old)])),
            (c, links(&[(a, young), (b, old)])),
        ];
        let told: Vec<_> = at.iter().map(|(id, links)| (*id, links)).collect();
        assert_eq!(suspects(&told, lives_ms), BTreeSet::from([a]));
        let at = [(b, links(&[(a, old), (c, old)]))];
        let told: Vec<_> = at.iter().map(|(id, links)| (*id, links)).collect();
        assert_eq!(suspects(&told, lives_ms), BTreeSet::new());
    }
}
