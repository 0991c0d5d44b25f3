//! Clusters made by hand: the truth about every node, what each believes otherwise, and whom we hear.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use shardwright_planner::{
    Action, Desired, Limits, Plan, Severity, Shape, Step, check, layout, plan,
};
use shardwright_topology::{
    Address, AtLimit, Attempt, AttemptKind, Claim, ClusterInfo, ConfigEpoch, Death, DeathProof,
    Disk, EngineKind, Flags, Formed, FullCopies, FunctionLibraries, Health, NoWrites, NodeId,
    NodeView, Observed, OpenSlot, Place, Process, ReplicaLink, Replication, Role, Row, Rows, Seen,
    Server, ServerInfo, ServerName, Slot, SlotRange, SlotSet, SlotSize, Starter, Starts, Stream,
    Timestamp, Version, Why,
};

/// When all observations are made. Long after the cluster's birth, so that ages can be subtracted.
pub(crate) const NOW: u64 = 1_000_000;

/// The id of a node: its name's letters, so that short ids can be turned back into names.
pub(crate) fn id(name: &str) -> NodeId {
    let mut bytes = [0; 20];
    for (byte, letter) in bytes.iter_mut().zip(name.bytes()) {
        *byte = letter;
    }
    NodeId::from_bytes(bytes)
}

pub(crate) fn slot(number: u64) -> Slot {
    Slot::new(number).expect("a slot of a test is in range")
}

pub(crate) fn slots(first: u64, last: u64) -> SlotSet {
    SlotSet::from(SlotRange::new(first, last).expect("a range of a test is in range"))
}

/// A disk without the newest data, whose node would claim the first of three shards by this epoch.
pub(crate) fn claims(epoch: u64) -> Disk {
    Disk::Stale {
        claim: Claim::Slots {
            epoch: ConfigEpoch(epoch),
            slots: layout(3)[0].into(),
        },
    }
}

/// A stream of this id that continues no other.
pub(crate) fn stream(id: &str) -> Stream {
    Stream {
        id: id.to_owned(),
        before: None,
    }
}

/// The truth about one node.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one independent fact that a test sets"
)]
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    /// The id it speaks by.
    pub(crate) id: NodeId,
    pub(crate) place: Place,
    pub(crate) address: Address,
    /// Its primary; none for a primary.
    pub(crate) primary: Option<NodeId>,
    pub(crate) slots: SlotSet,
    pub(crate) epoch: u64,
    pub(crate) open: Vec<OpenSlot>,
    pub(crate) keys: u64,
    /// What memory it uses, and its limit, if it tells.
    pub(crate) memory: Option<(u64, u64)>,
    /// How many libraries of functions it has, if it tells.
    pub(crate) libraries: Option<u64>,
    /// Which ones.
    pub(crate) functions: Seen<FunctionLibraries>,
    pub(crate) keys_in_slot: BTreeMap<Slot, u64>,
    pub(crate) stray_keys: Seen<BTreeMap<Slot, u64>>,
    pub(crate) offset: u64,
    /// The stream it has, where that is not its shard's.
    pub(crate) stream: Option<Stream>,
    /// Where it copies from, where that is not its primary's address.
    pub(crate) target: Option<Address>,
    /// A replica that has had no link since it began to follow.
    pub(crate) never_linked: bool,
    pub(crate) link_up: bool,
    pub(crate) syncing: bool,
    pub(crate) uptime_s: Option<u64>,
    pub(crate) state_ok: bool,
    pub(crate) no_writes: Option<NoWrites>,
    pub(crate) full_copies: Option<FullCopies>,
    pub(crate) engine: EngineKind,
    pub(crate) version: Version,
    /// Which group of nodes that know one another it is in; none for a lone one.
    pub(crate) island: Option<u32>,
    pub(crate) process: Process,
    pub(crate) starter: Starter,
    pub(crate) leaving: bool,
    /// Why it is not heard, if it is not.
    pub(crate) silent: Option<Why>,
    pub(crate) last_heard: Option<Box<NodeView>>,
    pub(crate) disk: Seen<Disk>,
    pub(crate) disk_row: Option<Box<Row>>,
    pub(crate) recorded: Option<NodeId>,
    /// False for a node that others list, but that has no server.
    pub(crate) housed: bool,
}

type Edit = Box<dyn Fn(&mut Row)>;

/// A cluster made by hand.
pub(crate) struct World {
    pub(crate) nodes: Vec<Node>,
    pub(crate) formed: bool,
    pub(crate) attempts: Vec<Attempt>,
    /// Who became a primary, and who was voted about: so many ms ago.
    pub(crate) wins: Vec<(NodeId, u64)>,
    pub(crate) votes: Vec<(NodeId, u64)>,
    /// Who was told to take slots in, and which server was first found dead: so many ms ago.
    pub(crate) took_in: Vec<(NodeId, u64)>,
    pub(crate) down: Vec<(&'static str, u64)>,
    /// Which server was started so often without a word from it, and so many ms ago.
    pub(crate) starts: Vec<(&'static str, u32, u64)>,
    /// What nodes hold of slots, as far as it was measured.
    pub(crate) sizes: BTreeMap<NodeId, BTreeMap<Slot, SlotSize>>,
    /// Which replicas were seen with their link to which primary.
    pub(crate) linked: Vec<(NodeId, NodeId)>,
    /// Replicas that their primary does not list as connected.
    pub(crate) unlisted: Vec<NodeId>,
    /// Nodes that may not take their primary's place by themselves; filled by [`World::plan`].
    pub(crate) held_back: RefCell<BTreeSet<NodeId>>,
    /// Those of them that we set so ourselves.
    pub(crate) remembers_held_back: Vec<NodeId>,
    /// For how long all was at rest, if that is remembered.
    pub(crate) steady_ms: Option<u64>,
    /// What some believe of others, against the truth.
    edits: BTreeMap<(NodeId, NodeId), Vec<Edit>>,
}

impl World {
    /// Nothing at all.
    pub(crate) fn empty() -> Self {
        Self {
            nodes: Vec::new(),
            formed: false,
            attempts: Vec::new(),
            wins: Vec::new(),
            votes: Vec::new(),
            took_in: Vec::new(),
            down: Vec::new(),
            starts: Vec::new(),
            sizes: BTreeMap::new(),
            linked: Vec::new(),
            unlisted: Vec::new(),
            held_back: RefCell::default(),
            remembers_held_back: Vec::new(),
            steady_ms: Some(60_000),
            edits: BTreeMap::new(),
        }
    }

    /// Blank servers `a`, `b`, `c`…
    pub(crate) fn blank(count: usize) -> Self {
        let mut w = Self::empty();
        for name in ('a'..='z').take(count) {
            w.add(&name.to_string());
        }
        w
    }

    /// A healthy cluster of ours: primaries `a`, `b`, `c`… with replicas `a1`, `a2`, `b1`…
    pub(crate) fn formed(shards: u16, replicas: u16) -> Self {
        let mut w = Self::empty();
        w.formed = true;
        for (name, range) in ('a'..='z').zip(layout(shards)) {
            let name = name.to_string();
            let epoch = u64::try_from(w.nodes.len()).unwrap_or(u64::MAX) + 1;
            let primary = w.add(&name);
            primary.slots = range.into();
            primary.island = Some(0);
            primary.epoch = epoch;
            primary.offset = 5_000;
            primary.keys = 100;
            for k in 1..=replicas {
                w.add_replica(&format!("{name}{k}"), &name);
            }
        }
        w
    }

    /// Moves the slots of a step that moves some, at once and for all to see.
    pub(crate) fn move_slots(&mut self, step: &Step) {
        let Action::MoveSlots { from, to, slots } = &step.action else {
            panic!("it moves no slots: {step}");
        };
        let epoch = self.nodes.iter().map(|n| n.epoch).max().unwrap_or(0) + 1;
        for node in &mut self.nodes {
            if node.id == *from {
                node.slots = node.slots.difference(slots);
                // A primary that gave its last slot away holds nothing.
                if node.slots.is_empty() {
                    node.keys = 0;
                }
            } else if node.id == to.node() {
                node.slots = node.slots.union(slots);
                node.epoch = epoch;
            }
        }
    }

    /// Adds a blank server, on a host of its own.
    pub(crate) fn add(&mut self, name: &str) -> &mut Node {
        let port = 7_000 + u16::try_from(self.nodes.len()).unwrap_or(0);
        self.nodes.push(Node {
            name: name.to_owned(),
            id: id(name),
            place: Place {
                host: Some(format!("host-{name}")),
                ..Place::default()
            },
            address: Address::loopback(port),
            primary: None,
            slots: SlotSet::empty(),
            epoch: 0,
            open: Vec::new(),
            keys: 0,
            memory: None,
            libraries: Some(0),
            functions: Seen::Known(FunctionLibraries::new()),
            keys_in_slot: BTreeMap::new(),
            stray_keys: Seen::Known(BTreeMap::new()),
            offset: 0,
            stream: None,
            target: None,
            never_linked: false,
            link_up: true,
            syncing: false,
            uptime_s: Some(600),
            state_ok: true,
            no_writes: None,
            full_copies: None,
            engine: EngineKind::Redis,
            version: Version {
                major: 7,
                minor: 0,
                patch: 15,
            },
            island: None,
            process: Process::Running,
            starter: Starter::Step,
            leaving: false,
            silent: None,
            last_heard: None,
            disk: Seen::Known(Disk::Log),
            disk_row: None,
            recorded: Some(id(name)),
            housed: true,
        });
        self.nodes.last_mut().expect("one was pushed")
    }

    /// Adds a replica in sync, in its primary's island.
    pub(crate) fn add_replica(&mut self, name: &str, of: &str) -> &mut Node {
        let primary = self.get(of).clone();
        let node = self.add(name);
        node.primary = Some(primary.id);
        node.epoch = primary.epoch;
        node.island = primary.island;
        node.offset = primary.offset;
        node.keys = primary.keys;
        node
    }

    pub(crate) fn get(&self, name: &str) -> &Node {
        self.nodes
            .iter()
            .find(|n| n.name == name)
            .expect("the test names a node that is there")
    }

    pub(crate) fn node(&mut self, name: &str) -> &mut Node {
        self.nodes
            .iter_mut()
            .find(|n| n.name == name)
            .expect("the test names a node that is there")
    }

    /// Its process is gone, by proof, since so many milliseconds; what it said last is remembered.
    pub(crate) fn kill(&mut self, name: &str, ms_ago: u64) -> &mut Node {
        let view = self.view(self.get(name));
        let node = self.node(name);
        node.process = Process::Dead(Death {
            proof: DeathProof::ChildReaped,
            since: Timestamp(NOW - ms_ago),
        });
        node.silent = Some(Why::Refused);
        node.last_heard = Some(Box::new(view));
        node
    }

    /// It refuses connections, at a process that is not known to us.
    pub(crate) fn refuse(&mut self, name: &str) -> &mut Node {
        let view = self.view(self.get(name));
        let node = self.node(name);
        node.process = Process::Unknown;
        node.silent = Some(Why::Refused);
        node.last_heard = Some(Box::new(view));
        node
    }

    /// So many of the others, in their order, hold it to have failed; nobody has a link to it.
    pub(crate) fn cut_off(&mut self, name: &str, failed_by: usize) {
        let others: Vec<String> = self.nodes.iter().map(|n| n.name.clone()).collect();
        for (i, other) in others.iter().filter(|o| *o != name).enumerate() {
            self.believes(other, name, move |row| {
                row.link_up = false;
                row.health = if i < failed_by {
                    Health::Failed
                } else {
                    Health::Suspected
                };
            });
        }
    }

    /// It does not answer in time: that proves nothing.
    pub(crate) fn hush(&mut self, name: &str) -> &mut Node {
        let node = self.node(name);
        node.process = Process::Unknown;
        node.silent = Some(Why::TimedOut);
        node
    }

    /// It lost its directory: the old node is only listed, and a new, blank one called `new` lives in its place.
    pub(crate) fn lose_directory(&mut self, name: &str, new: &str) -> &mut Node {
        let old = self.get(name).clone();
        let ghost = self.node(name);
        ghost.housed = false;
        let node = self.add(new);
        node.address = old.address;
        node.place = old.place;
        node.recorded = Some(old.id);
        node.uptime_s = Some(0);
        node
    }

    /// Changes what one node believes of another.
    pub(crate) fn believes(
        &mut self,
        speaker: &str,
        about: &str,
        edit: impl Fn(&mut Row) + 'static,
    ) {
        self.edits
            .entry((self.get(speaker).id, self.get(about).id))
            .or_default()
            .push(Box::new(edit));
    }

    /// Every node counted its keys of these slots: so many at these, none at the others.
    pub(crate) fn counted(&mut self, slots: &SlotSet, held: &[(&str, u64)]) {
        for node in &mut self.nodes {
            let keys = held.iter().find(|(name, _)| *name == node.name);
            let keys = keys.map_or(0, |(_, keys)| *keys);
            node.keys_in_slot.extend(slots.slots().map(|s| (s, keys)));
        }
    }

    pub(crate) fn asked(&mut self, name: &str, kind: AttemptKind, ms_ago: u64) {
        self.attempts.push(Attempt {
            node: id(name),
            kind,
            at: Timestamp(NOW - ms_ago),
            ended: false,
        });
    }

    /// What a node's row says, in truth.
    pub(crate) fn row(node: &Node) -> Row {
        Row {
            id: node.id,
            address: node.address.clone(),
            hostname: None,
            shard: None,
            role: if node.primary.is_some() {
                Role::Replica
            } else {
                Role::Primary
            },
            primary: node.primary,
            health: Health::Fine,
            flags: Flags::default(),
            ping_sent_ms: 0,
            // One that is gone said its last word when the links to it were lost.
            pong_received_ms: if matches!(node.process, Process::Dead(_)) || !node.housed {
                NOW - 5_000
            } else {
                NOW
            },
            epoch: ConfigEpoch(node.epoch),
            link_up: true,
            slots: node.slots.clone(),
            open: Vec::new(),
        }
    }

    pub(crate) fn view(&self, node: &Node) -> NodeView {
        let mut rows = Vec::new();
        for other in &self.nodes {
            let own = other.id == node.id;
            let shared = node.island.is_some() && node.island == other.island;
            if !own && !shared {
                continue;
            }
            let mut row = Self::row(other);
            // A node whose place another has answers nobody.
            row.link_up &= other.housed;
            if own {
                row.flags = row.flags.with(Flags::MYSELF);
                if self.held_back.borrow().contains(&node.id) {
                    row.flags = row.flags.with(Flags::NOFAILOVER);
                }
                row.open.clone_from(&node.open);
            }
            for edit in self.edits.get(&(node.id, other.id)).into_iter().flatten() {
                edit(&mut row);
            }
            rows.push(row);
        }
        let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        NodeView {
            id: node.id,
            rows: Rows::new(rows),
            cluster: ClusterInfo {
                state_ok: node.state_ok,
                slots_assigned: 16_384,
                known_nodes: count,
                size: count,
                current_epoch: ConfigEpoch(node.epoch),
                my_epoch: ConfigEpoch(node.epoch),
            },
            server: self.info(node),
            keys_in_slot: node.keys_in_slot.clone(),
            stray_keys: node.stray_keys.clone(),
            functions: node.functions.clone(),
        }
    }

    fn info(&self, node: &Node) -> ServerInfo {
        let head = node.primary.unwrap_or(node.id);
        let replication = match node.primary {
            None => Replication::Primary {
                offset: node.offset,
                replicas: self
                    .nodes
                    .iter()
                    .filter(|r| r.primary == Some(node.id) && !self.unlisted.contains(&r.id))
                    .map(|r| ReplicaLink {
                        address: r.address.clone(),
                        online: !r.syncing,
                        offset: r.offset,
                    })
                    .collect(),
            },
            Some(primary) => Replication::Replica {
                primary: node.target.clone().unwrap_or_else(|| {
                    let from = self.nodes.iter().find(|n| n.id == primary);
                    from.map_or_else(|| Address::loopback(1), |n| n.address.clone())
                }),
                link_up: node.link_up,
                syncing: node.syncing,
                offset: node.offset,
            },
        };
        ServerInfo {
            engine: node.engine,
            version: node.version,
            run_id: format!("run-{}", node.name),
            replication,
            stream: Some(
                node.stream
                    .clone()
                    .unwrap_or_else(|| stream(&head.to_string())),
            ),
            stream_end: Some(node.offset),
            link_lost_s: (!node.link_up && !node.never_linked).then_some(5),
            loading: false,
            aof_enabled: Some(true),
            used_memory_bytes: node.memory.map(|(used, _)| used),
            maxmemory_bytes: node.memory.map(|(_, limit)| limit),
            at_limit: node.memory.map(|_| AtLimit::Evicts),
            evicted_keys: node.memory.map(|_| 0),
            ops_per_s: None,
            libraries: node.libraries,
            keys: node.keys,
            databases: BTreeMap::from_iter((node.keys > 0).then_some((0, node.keys))),
            databases_max: None,
            uptime_s: node.uptime_s,
            availability_zone: None,
            no_writes: node.no_writes,
            full_copies: node.full_copies,
        }
    }

    fn server(&self, node: &Node) -> Server {
        Server {
            name: ServerName(node.name.clone()),
            address: Seen::Known(node.address.clone()),
            place: node.place.clone(),
            process: node.process.clone(),
            starter: node.starter,
            leaving: node.leaving,
            view: match &node.silent {
                None => Seen::Known(self.view(node)),
                Some(why) => Seen::Unknown(why.clone()),
            },
            last_heard: node.last_heard.clone(),
            disk: node.disk.clone(),
            disk_row: node.disk_row.clone(),
            start_failure: None,
            recorded_id: node.recorded,
        }
    }

    /// The servers as a runtime would show them.
    pub(crate) fn servers(&self) -> Vec<Server> {
        let housed = self.nodes.iter().filter(|n| n.housed);
        housed.map(|n| self.server(n)).collect()
    }

    pub(crate) fn observe(&self) -> Observed {
        self.observe_in(self.servers())
    }

    pub(crate) fn observe_in(&self, servers: Vec<Server>) -> Observed {
        let formed = self.formed.then(|| Formed {
            cluster_id: "cluster".to_owned(),
            at: Timestamp(1),
        });
        let mut observed = Observed::new(Timestamp(NOW), formed, servers);
        observed.attempts.clone_from(&self.attempts);
        let ago = |(id, ms): &(NodeId, u64)| (*id, Timestamp(NOW - ms));
        observed.wins = self.wins.iter().map(ago).collect();
        observed.votes = self.votes.iter().map(ago).collect();
        observed.held_back = self.remembers_held_back.iter().copied().collect();
        observed.linked = self.linked.iter().copied().collect();
        observed.took_in = self.took_in.iter().map(ago).collect();
        let down = |(name, ms): &(&str, u64)| (ServerName((*name).to_owned()), Timestamp(NOW - ms));
        observed.down_since = self.down.iter().map(down).collect();
        observed
            .starts
            .extend(self.starts.iter().map(|(name, times, ago)| {
                let (times, last) = (*times, Timestamp(NOW - ago));
                (ServerName((*name).to_owned()), Starts { times, last })
            }));
        observed.slot_sizes.clone_from(&self.sizes);
        observed.steady_since = self.steady_ms.map(|ms| Timestamp(NOW - ms));
        observed
    }

    /// The plan, but for what it does about elections before a node copies another: that has tests of its own.
    pub(crate) fn plan(&self, d: &Desired) -> Plan {
        let mut made = self.plan_once(d);
        made.steps.retain(|s| {
            !matches!(
                s.action,
                Action::SetElectable {
                    electable: false,
                    ..
                }
            )
        });
        made
    }

    /// The plan. Every plan must pass its linter, and be the same when made again.
    pub(crate) fn plan_once(&self, d: &Desired) -> Plan {
        let observed = self.observe();
        let made = plan(d, &observed, &Limits::default(), Timestamp(NOW));
        let again = plan(d, &observed, &Limits::default(), Timestamp(NOW));
        assert_eq!(made, again, "the same input gives the same plan");
        let mut found = check(&made, d, &observed);
        found.retain(|v| v.severity == Severity::Fatal);
        assert_eq!(found, [], "the linter lets it pass: {made:#?}");
        made
    }

    /// The steps, in words, with names instead of ids and without their reasons.
    pub(crate) fn steps(&self, d: &Desired) -> Vec<String> {
        let plan = self.plan(d);
        plan.steps
            .iter()
            .map(|s| self.name_all(&s.action.to_string()))
            .collect()
    }

    /// The steps with their reasons.
    pub(crate) fn reasons(&self, d: &Desired) -> Vec<String> {
        let plan = self.plan(d);
        plan.steps
            .iter()
            .map(|s| self.name_all(&s.to_string()))
            .collect()
    }

    /// What is waited for, in words.
    pub(crate) fn waits(&self, d: &Desired) -> Vec<String> {
        let plan = self.plan(d);
        plan.waiting
            .iter()
            .map(|w| self.name_all(&w.to_string()))
            .collect()
    }

    /// Names instead of short ids.
    pub(crate) fn name_all(&self, text: &str) -> String {
        let named = |text: String, node: &Node| text.replace(&node.id.short(), &node.name);
        self.nodes.iter().fold(text.to_owned(), named)
    }
}

/// A managed cluster of three shards with a replica each.
pub(crate) fn three() -> Desired {
    Desired::managed(3, 1)
}

/// The same shape for servers that others run.
pub(crate) fn guest_shape(shards: u16, replicas_per_shard: u16) -> Desired {
    Desired {
        shape: Shape::Declared {
            shards,
            replicas_per_shard,
        },
        ..Desired::guest()
    }
}

pub(crate) fn consenting(mut d: Desired) -> Desired {
    d.consent.lose_data = true;
    d
}

/// Whether any of these texts holds this one.
pub(crate) fn says(texts: &[String], what: &str) -> bool {
    texts.iter().any(|t| t.contains(what))
}
