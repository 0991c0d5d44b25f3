//! What a node and a runtime tell an operator who asks.

use std::collections::{BTreeMap, BTreeSet};

use shardwright_topology::{
    Address, AtLimit, Claim, ClusterInfo, ConfigEpoch, Disk, EngineKind, Flags, Health, NodeId,
    NodeView, OpenSlot, ReplicaLink, Replication, Role, Row, Rows, Seen, ServerInfo, SizedBy, Slot,
    SlotSet, SlotSize, Stream, Version, Why, unowned,
};

use crate::facts::{self, Profile};
use crate::model::{Model, Persistence};
use crate::node::{At, Belief, Elections, Node, Peer};

impl Model {
    /// Everything the node at this server says.
    pub(crate) fn view(&self, seat: usize) -> Option<NodeView> {
        let node = self.seats[seat].node.as_ref()?;
        let mut rows: Vec<Row> = node
            .peers
            .iter()
            .map(|(id, peer)| Row {
                id: *id,
                open: if *id == node.id {
                    node.open.clone()
                } else {
                    Vec::new()
                },
                flags: flags(node, *id, peer),
                ..Self::row(node, *id, peer)
            })
            .collect();
        rows.extend(node.greetings.iter().map(|g| Row {
            flags: Flags::HANDSHAKE,
            ..Self::row(node, g.name, &Peer::new(g.at, Role::Primary, 0))
        }));
        let known_nodes = u32::try_from(rows.len()).expect("few nodes");
        let head = node.peers.get(&node.shard_head());
        Some(NodeView {
            id: node.id,
            rows: Rows::new(rows),
            cluster: ClusterInfo {
                state_ok: node.state_ok,
                slots_assigned: node.owned().count(),
                known_nodes,
                size: u32::try_from(node.size()).expect("few nodes"),
                current_epoch: ConfigEpoch(node.current_epoch),
                my_epoch: ConfigEpoch(head.map_or(node.me().epoch, |p| p.epoch)),
            },
            server: self.server_info(seat, node),
            keys_in_slot: BTreeMap::new(),
            stray_keys: stray_keys(node),
            functions: Seen::Known(node.libraries.clone()),
        })
    }

    /// Where slots are open, both ends and all primaries are asked how many keys they hold of them; and every node that
    /// has keys, how many it holds of slots that nobody owns.
    pub(crate) fn count_keys<'a>(&self, heard: impl Iterator<Item = (usize, &'a mut NodeView)>) {
        let mut heard: Vec<(usize, &mut NodeView)> = heard.collect();
        let mut wanted: BTreeSet<(NodeId, Slot)> = BTreeSet::new();
        for (_, view) in &heard {
            for end in view.own().into_iter().flat_map(|own| &own.open) {
                let (OpenSlot::Migrating { slot, to: other }
                | OpenSlot::Importing { slot, from: other }) = *end;
                let primaries = heard
                    .iter()
                    .filter(|(_, v)| v.own().is_some_and(|own| own.role == Role::Primary));
                let ends = [view.id, other].into_iter();
                wanted.extend(
                    ends.chain(primaries.map(|(_, v)| v.id))
                        .map(|id| (id, slot)),
                );
            }
        }
        let nobodys = unowned(heard.iter().map(|(_, v)| &**v));
        for (seat, view) in &mut heard {
            let Some(node) = self.seats[*seat].node.as_ref() else {
                continue;
            };
            let mine = wanted.iter().filter(|(id, _)| *id == view.id);
            let open = mine.map(|(_, slot)| *slot);
            let nobodys = nobodys.slots().filter(|_| view.server.keys > 0);
            view.keys_in_slot = open
                .chain(nobodys)
                .map(|slot| (slot, node.keys_in(slot).count() as u64))
                .collect();
        }
    }

    /// What a node that answers holds of these slots; nothing where it does not.
    pub(crate) fn slot_sizes(&self, seat: usize, slots: &SlotSet) -> BTreeMap<Slot, SlotSize> {
        let Some(node) = self.seats[seat].node.as_ref() else {
            return BTreeMap::new();
        };
        let size = |slot: Slot| {
            let keys = node.keys_in(slot).count() as u64;
            SlotSize {
                keys,
                bytes: keys * facts::KEY_BYTES,
                largest: facts::KEY_BYTES.min(keys * facts::KEY_BYTES),
                by: SizedBy::Keys,
            }
        };
        slots.slots().map(|slot| (slot, size(slot))).collect()
    }

    fn row(node: &Node, id: NodeId, peer: &Peer) -> Row {
        let head = peer.primary.and_then(|p| node.peers.get(&p));
        Row {
            id,
            address: Self::address(peer.at),
            hostname: None,
            shard: None,
            role: peer.role,
            primary: peer.primary,
            health: match peer.belief {
                Belief::Fine => Health::Fine,
                Belief::Suspected => Health::Suspected,
                Belief::Failed { .. } => Health::Failed,
            },
            flags: Flags::default(),
            ping_sent_ms: 0,
            pong_received_ms: if id == node.id { 0 } else { peer.heard },
            epoch: ConfigEpoch(head.map_or(peer.epoch, |p| p.epoch)),
            link_up: peer.link_up || id == node.id,
            slots: if peer.role == Role::Primary {
                peer.slots.clone()
            } else {
                SlotSet::empty()
            },
            open: Vec::new(),
        }
    }

    fn server_info(&self, seat: usize, node: &Node) -> ServerInfo {
        let replication = match node.me().primary {
            None => Replication::Primary {
                offset: node.offset,
                replicas: self.replicas_seen_by(node),
            },
            Some(_) => Replication::Replica {
                primary: Self::address(node.copying.target),
                link_up: node.copying.up,
                syncing: node.copying.busy.is_some_and(|(_, full)| full),
                offset: node.offset_shown(),
            },
        };
        let (engine, version) = match self.profile {
            Profile::Redis70 => (EngineKind::Redis, (7, 0, 15)),
            Profile::Valkey9 => (EngineKind::Valkey, (9, 1, 0)),
        };
        ServerInfo {
            engine,
            version: Version {
                major: version.0,
                minor: version.1,
                patch: version.2,
            },
            run_id: format!("run{}", node.run),
            replication,
            stream: Some(Stream {
                id: format!("stream{}", node.replid),
                before: node
                    .replid2
                    .map(|(id, until)| (format!("stream{id}"), until)),
            }),
            stream_end: Some(node.offset),
            link_lost_s: node
                .copying
                .lost
                .filter(|_| !node.copying.up && !node.is_primary())
                .map(|at| self.now.saturating_sub(at) / 1_000),
            loading: false,
            aof_enabled: Some(self.seats[seat].persistence != Persistence::Off),
            used_memory_bytes: Some(node.data.len() as u64 * facts::KEY_BYTES),
            maxmemory_bytes: Some(self.seats[seat].keys_max.unwrap_or(0) * facts::KEY_BYTES),
            at_limit: Some(AtLimit::Evicts),
            evicted_keys: Some(node.evicted),
            ops_per_s: None,
            libraries: Some(node.libraries.len() as u64),
            keys: node.data.len() as u64,
            databases: BTreeMap::from([(0, node.data.len() as u64)]),
            databases_max: None,
            uptime_s: Some(self.now.saturating_sub(node.started) / 1_000),
            availability_zone: None,
            no_writes: None,
            full_copies: None,
        }
    }

    /// The replicas that are connected to a primary, as it lists them.
    fn replicas_seen_by(&self, node: &Node) -> Vec<ReplicaLink> {
        let copies = |n: &Node| n.copying.from == Some((node.id, node.run));
        self.seats
            .iter()
            .filter(|s| s.running)
            .filter_map(|s| s.node.as_ref().filter(|n| copies(n)).map(|n| (s, n)))
            .map(|(s, n)| ReplicaLink {
                address: Address {
                    ..Self::address(s.at)
                },
                online: n.copying.up,
                offset: n.offset,
            })
            .collect()
    }

    /// What the table that a start of this server would find says of its own node.
    pub(crate) fn disk_row(&self, seat: usize) -> Option<Box<Row>> {
        let node = self.seats[seat].node.as_ref().filter(|n| !n.table_lost)?;
        Some(Box::new(Self::row(node, node.id, node.me())))
    }

    /// What a start of this server would find.
    pub(crate) fn disk(&self, seat: usize) -> Disk {
        let s = &self.seats[seat];
        let Some(node) = s.node.as_ref() else {
            return Disk::Blank;
        };
        if node.torn {
            return Disk::TableRefused;
        }
        if node.table_lost && s.persistence != Persistence::Off {
            return Disk::Tableless;
        }
        match s.persistence {
            Persistence::Always | Persistence::EverySecond => Disk::Log,
            Persistence::Off => Disk::Stale {
                claim: if node.is_primary() && !(node.me().slots.is_empty() && node.open.is_empty())
                {
                    Claim::Slots {
                        epoch: ConfigEpoch(node.me().epoch),
                        slots: node.me().slots.clone(),
                    }
                } else {
                    Claim::Nothing
                },
            },
        }
    }
}

/// What a primary holds of slots that it does not own, or a replica without a link of slots that are not its primary's.
fn stray_keys(node: &Node) -> Seen<BTreeMap<Slot, u64>> {
    if !node.is_primary() && node.copying.up {
        return Seen::Unknown(Why::NotAsked);
    }
    let Some(of) = node.peers.get(&node.shard_head()) else {
        return Seen::Unknown(Why::NotAsked);
    };
    let mut keys: BTreeMap<Slot, u64> = BTreeMap::new();
    for (number, _) in &node.data {
        let slot = Slot::new(u64::from(*number)).expect("a key is of a slot");
        if !of.slots.contains(slot) {
            *keys.entry(slot).or_default() += 1;
        }
    }
    Seen::Known(keys)
}

fn flags(node: &Node, id: NodeId, peer: &Peer) -> Flags {
    let mut flags = Flags::default();
    if id == node.id {
        flags = flags.with(Flags::MYSELF);
        if node.elections == Elections::HeldBack {
            flags = flags.with(Flags::NOFAILOVER);
        }
    }
    if peer.at == At::NONE {
        flags = flags.with(Flags::NOADDR);
    }
    flags
}
