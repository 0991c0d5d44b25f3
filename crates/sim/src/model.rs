//! The model: servers, the network between them, the queue of events, and the writes that were acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use shardwright_topology::{Address, Host, NodeId, OpenSlot, Place, ServerName, Slot};

use crate::bus::{Context, Elected, Kind, Message, Outgoing};
use crate::dice::Dice;
use crate::facts::{self, Profile};
use crate::node::{At, Key, Node};
use crate::oracle::Oracle;
use crate::trace::Trace;

/// What a process keeps when it is killed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Persistence {
    /// Every acknowledged write is on disk.
    Always,
    /// All but perhaps the last second.
    EverySecond,
    /// Nothing: neither a log nor snapshots.
    Off,
}

/// One server: its process, its disk, and what its runtime keeps of it.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "a process is each of these by itself"
)]
pub(crate) struct Seat {
    pub(crate) name: ServerName,
    pub(crate) place: Place,
    pub(crate) at: At,
    pub(crate) running: bool,
    pub(crate) frozen: bool,
    pub(crate) loads_until: u64,
    /// The node: in memory while it runs, else what its disk would bring back.
    pub(crate) node: Option<Node>,
    /// The node that belongs here while a stranger's process sits in its place.
    pub(crate) stash: Option<Node>,
    pub(crate) foreign: bool,
    /// Whether the runtime lists this server.
    pub(crate) listed: bool,
    pub(crate) died: Option<u64>,
    /// When the run before the present one ended.
    pub(crate) died_before: Option<u64>,
    pub(crate) started_ever: bool,
    pub(crate) persistence: Persistence,
    /// How many keys its memory limit lets it hold; beyond that it deletes others (`maxmemory-policy allkeys-lru`).
    pub(crate) keys_max: Option<u64>,
    /// The node that the runtime recorded here; kept on its disk.
    pub(crate) recorded: Option<NodeId>,
    /// Whether our own step started the present run.
    pub(crate) started_by_us: bool,
    /// What its last kill took, beyond what everysec may lose, or the loss of its directory.
    pub(crate) lost: BTreeSet<Key>,
    pub(crate) inbox: Vec<Inbound>,
}

/// Something that waits in the socket of a frozen process.
#[derive(Clone, Debug)]
pub(crate) enum Inbound {
    Bus(Message),
    Stream(Stream),
    Command(crate::commands::Command),
    /// A client's write to this slot: the client waits for the answer.
    Write(Slot),
}

/// One change that travels from a primary to a replica.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) from: usize,
    pub(crate) run: u64,
    pub(crate) link: u64,
    /// The key; none for the stream's own ping.
    pub(crate) key: Option<Key>,
    pub(crate) add: bool,
    pub(crate) offset: u64,
}

/// Something that happens.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Tick {
        seat: usize,
        run: u64,
    },
    Bus {
        to: usize,
        run: u64,
        message: Message,
    },
    Stream {
        to: usize,
        stream: Stream,
    },
    Write,
    Watch,
    /// The operator's turn; its meaning is the operator's.
    Operator(crate::operator::Turn),
    /// A fault, by its place in the history's list.
    Fault(usize),
}

/// A write that a client was told is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Write {
    pub(crate) at: u64,
}

/// The model.
pub(crate) struct Model {
    pub(crate) now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    order: u64,
    pub(crate) seats: Vec<Seat>,
    /// Directed pairs of seats between which nothing gets through.
    pub(crate) cut: BTreeSet<(usize, usize)>,
    /// Seats the operator does not reach.
    pub(crate) operator_cut: BTreeSet<usize>,
    /// The servers whose announced address refuses clients and replicas, while the bus reaches them.
    pub(crate) refusing: BTreeSet<usize>,
    /// Further delay of the bus, at most, in milliseconds.
    pub(crate) slow_bus_ms: u64,
    /// Further delay of replication, at most, in milliseconds.
    pub(crate) slow_stream_ms: u64,
    /// How much longer a full copy takes.
    pub(crate) slow_copy_ms: u64,
    pub(crate) profile: Profile,
    pub(crate) writes: Vec<Write>,
    pub(crate) write_every_ms: u64,
    net: Dice,
    pub(crate) engine: Dice,
    client: Dice,
    /// For clients that wait at a frozen process.
    pub(crate) patient: Dice,
    pub(crate) disk: Dice,
    ids: Dice,
    pub(crate) runs: u64,
    streams: u64,
    next_at: u16,
    pub(crate) oracle: Oracle,
    pub(crate) trace: Trace,
    /// Names of nodes for people: the server they were born on, and which life of it this is.
    pub(crate) names: BTreeMap<NodeId, String>,
    lives: BTreeMap<usize, u32>,
}

impl Model {
    pub(crate) fn new(seed: u64, profile: Profile, trace: Trace) -> Self {
        let mut model = Self {
            now: 1_000_000,
            queue: BTreeMap::new(),
            order: 0,
            seats: Vec::new(),
            cut: BTreeSet::new(),
            operator_cut: BTreeSet::new(),
            refusing: BTreeSet::new(),
            slow_bus_ms: 0,
            slow_stream_ms: 0,
            slow_copy_ms: 0,
            profile,
            writes: Vec::new(),
            write_every_ms: 0,
            net: Dice::of(seed, 1),
            engine: Dice::of(seed, 2),
            client: Dice::of(seed, 3),
            patient: Dice::of(seed, 15),
            disk: Dice::of(seed, 4),
            ids: Dice::of(seed, 5),
            runs: 0,
            streams: 1_000_000,
            next_at: 0,
            oracle: Oracle::default(),
            trace,
            names: BTreeMap::new(),
            lives: BTreeMap::new(),
        };
        model.after(0, Event::Watch);
        model
    }

    /// Adds a server that was never started.
    pub(crate) fn add_seat(&mut self, name: &str, place: Place, persistence: Persistence) -> usize {
        let at = self.fresh_address();
        self.seats.push(Seat {
            name: ServerName(name.to_owned()),
            place,
            at,
            running: false,
            frozen: false,
            loads_until: 0,
            node: None,
            stash: None,
            foreign: false,
            listed: true,
            died: None,
            died_before: None,
            started_ever: false,
            persistence,
            keys_max: None,
            recorded: None,
            started_by_us: false,
            lost: BTreeSet::new(),
            inbox: Vec::new(),
        });
        self.seats.len() - 1
    }

    pub(crate) fn fresh_address(&mut self) -> At {
        self.next_at += 1;
        At(self.next_at)
    }

    pub(crate) fn after(&mut self, ms: u64, event: Event) {
        self.order += 1;
        self.queue.insert((self.now + ms, self.order), event);
    }

    /// When the next event is due.
    pub(crate) fn next_at(&self) -> Option<u64> {
        self.queue.first_key_value().map(|(k, _)| k.0)
    }

    /// Takes the next event, and moves the time to it.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let ((at, _), event) = self.queue.pop_first()?;
        self.now = self.now.max(at);
        Some(event)
    }

    /// Does what an event of the model's own asks for; hands back one that is for others.
    pub(crate) fn handle(&mut self, event: Event) -> Option<Event> {
        match event {
            Event::Tick { seat, run } => self.tick(seat, run),
            Event::Bus { to, run, message } => self.deliver(to, run, message),
            Event::Stream { to, stream } => self.deliver_stream(to, stream),
            Event::Write => {
                self.client_write();
                if self.write_every_ms > 0 {
                    self.after(self.write_every_ms, Event::Write);
                }
            }
            Event::Watch => {
                self.watch();
                self.after(50, Event::Watch);
            }
            Event::Operator(_) | Event::Fault(_) => return Some(event),
        }
        None
    }

    /// Whether what `from` sends arrives at `to`.
    pub(crate) fn passes(&self, from: usize, to: usize) -> bool {
        self.cut.is_empty() || !self.cut.contains(&(from, to))
    }

    /// The process that listens at an address.
    pub(crate) fn listener(&self, at: At) -> Option<usize> {
        self.seats
            .iter()
            .position(|s| s.at == at && s.running && s.loads_until <= self.now)
    }

    /// Whether a server runs, answers, and has loaded.
    pub(crate) fn answers(&self, seat: usize) -> bool {
        let s = &self.seats[seat];
        s.running && !s.frozen && s.loads_until <= self.now
    }

    /// The server where this node lives or would come back: of a node and a copy of its disk, the node's own.
    pub(crate) fn home(&self, id: NodeId) -> Option<usize> {
        let has = |s: &Seat| s.node.as_ref().is_some_and(|n| n.id == id);
        let own = self.seats.iter().position(|s| !s.foreign && has(s));
        own.or_else(|| self.seats.iter().position(has))
    }

    pub(crate) fn address(at: At) -> Address {
        if at == At::NONE {
            return Address {
                port: 0,
                bus_port: 0,
                ..Address::new(Host::Unstated, 0)
            };
        }
        let [high, low] = at.0.to_be_bytes();
        Address::new(Host::Ip([10, 0, high, low].into()), 6_379)
    }

    /// The name of a node for people.
    pub(crate) fn name(&self, id: NodeId) -> String {
        self.names
            .get(&id)
            .cloned()
            .unwrap_or_else(|| format!("stranger {}", id.short()))
    }

    pub(crate) fn fresh_id(&mut self) -> NodeId {
        NodeId::from_bytes(self.ids.bytes20())
    }

    /// A new identity for whoever is born at this server.
    pub(crate) fn born(&mut self, seat: usize) -> NodeId {
        let id = self.fresh_id();
        let life = self.lives.entry(seat).or_insert(0);
        *life += 1;
        let name = &self.seats[seat].name;
        let name = if *life == 1 {
            name.0.clone()
        } else {
            format!("{name}.{life}")
        };
        self.names.insert(id, name);
        id
    }

    fn tick(&mut self, seat: usize, run: u64) {
        let now = self.now;
        let s = &self.seats[seat];
        if !s.running || s.node.as_ref().is_none_or(|n| n.run != run) {
            return;
        }
        let frozen = s.frozen;
        self.after(facts::TICK_MS, Event::Tick { seat, run });
        if frozen {
            return;
        }
        let reached: Vec<At> = self
            .seats
            .iter()
            .enumerate()
            .filter(|(i, t)| t.running && t.loads_until <= now && self.passes(seat, *i))
            .map(|(_, t)| t.at)
            .collect();
        self.with_node(seat, |node, cx| {
            node.tick(cx, &|at| reached.contains(&at));
        });
        self.tend_copy(seat);
    }

    /// Lets a node act, then sends what it has to send.
    pub(crate) fn with_node<T>(
        &mut self,
        seat: usize,
        act: impl FnOnce(&mut Node, &mut Context<'_>) -> T,
    ) -> Option<T> {
        let now = self.now;
        let node = self.seats[seat].node.as_mut()?;
        let mut cx = Context {
            now,
            dice: &mut self.engine,
            streams: &mut self.streams,
            out: Vec::new(),
            dropped: Vec::new(),
            elected: Elected::No,
        };
        let before = (node.is_primary(), node.me().primary);
        let result = act(node, &mut cx);
        let after = (node.is_primary(), node.me().primary);
        let Context {
            out,
            dropped,
            elected,
            ..
        } = cx;
        if before != after {
            let id = node.id;
            self.role_changed(seat, id, before, elected);
        }
        self.oracle_dropped_with_slots(seat, &dropped);
        self.send(seat, out);
        Some(result)
    }

    fn role_changed(
        &mut self,
        seat: usize,
        id: NodeId,
        before: (bool, Option<NodeId>),
        elected: Elected,
    ) {
        let node = self.seats[seat].node.as_ref().expect("it just acted");
        let now_primary = node.is_primary();
        let follows = node.me().primary;
        let epoch = node.me().epoch;
        let name = self.name(id);
        if now_primary {
            let past = before.1.map(|p| self.name(p));
            let how = match elected {
                Elected::No => "primary",
                Elected::Asked | Elected::ByItself => "elected",
            };
            self.trace.note(
                self.now,
                format_args!("{name} is {how} with epoch {epoch}, was replica of {past:?}"),
            );
            if let Some(past) = before.1.filter(|_| elected == Elected::ByItself) {
                self.judge_election(past, seat);
            }
            self.oracle_promoted(seat, before.1);
        } else if let Some(primary) = follows {
            // It gave way to one with the data. If the engine elects it before it has copied that, its start is not why.
            self.seats[seat].lost.clear();
            let primary = self.name(primary);
            self.trace
                .note(self.now, format_args!("{name} follows {primary}"));
        }
    }

    pub(crate) fn send(&mut self, from: usize, out: Vec<Outgoing>) {
        if out.is_empty() {
            return;
        }
        let Some(header) = self.seats[from].node.as_ref().map(|n| Rc::new(n.header())) else {
            return;
        };
        for o in out {
            let Some(to) = self.listener(o.to) else {
                continue;
            };
            if !self.passes(from, to) || to == from {
                continue;
            }
            let Some(run) = self.seats[to].node.as_ref().map(|n| n.run) else {
                continue;
            };
            let mut ms = self.net.within(facts::BUS_MS) + self.net.below(self.slow_bus_ms + 1);
            // What a busy node has yet to accept, it reads after what comes by the links that it has.
            if matches!(o.kind, Kind::Meet) && self.slow_bus_ms > 0 {
                ms += self.net.below(facts::ACCEPT_MS);
            }
            let message = Message {
                from,
                header: Rc::clone(&header),
                kind: o.kind,
                link: o.link,
            };
            self.after(ms, Event::Bus { to, run, message });
        }
    }

    fn deliver(&mut self, to: usize, run: u64, message: Message) {
        let s = &self.seats[to];
        if !s.running || s.node.as_ref().is_none_or(|n| n.run != run) {
            return;
        }
        if !self.passes(message.from, to) {
            return;
        }
        if s.frozen {
            self.seats[to].inbox.push(Inbound::Bus(message));
        } else {
            self.receive(to, &message);
        }
    }

    pub(crate) fn receive(&mut self, to: usize, message: &Message) {
        self.with_node(to, |node, cx| node.receive(message, cx));
    }

    pub(crate) fn deliver_stream(&mut self, to: usize, stream: Stream) {
        let (now, passes) = (self.now, self.passes(stream.from, to));
        let s = &mut self.seats[to];
        let Some(node) = s.node.as_mut().filter(|n| n.run == stream.run) else {
            return;
        };
        if !s.running || node.copying.link != stream.link || !node.copying.up {
            return;
        }
        if !passes {
            node.copying.up = false;
            node.copying.lost = Some(now);
            node.copying.from = None;
            node.copying.link += 1;
            return;
        }
        if s.frozen {
            s.inbox.push(Inbound::Stream(stream));
            return;
        }
        match stream.key {
            Some(key) if stream.add => {
                node.data.insert(key);
            }
            Some(key) => {
                node.data.remove(&key);
            }
            None => {}
        }
        node.offset = stream.offset;
        node.copying.last_contact = self.now;
        if node.manual.is_some() {
            self.with_node(to, Node::drive_failover);
        }
    }

    /// A client writes to a slot, at whoever takes it.
    fn client_write(&mut self) {
        let slot = Slot::new(
            self.client
                .below(u64::from(shardwright_topology::SLOT_COUNT)),
        )
        .expect("below the count");
        self.leave_write(slot);
        let takers: Vec<usize> = (0..self.seats.len())
            .filter(|i| self.answers(*i) && !self.seats[*i].foreign)
            .filter(|i| {
                self.seats[*i]
                    .node
                    .as_ref()
                    .is_some_and(|n| n.takes_writes(slot))
            })
            .collect();
        let Some(at) = self
            .client
            .pick(&takers)
            .and_then(|at| self.sent_on(at, slot))
        else {
            return;
        };
        let key = self.new_key(slot);
        self.change(at, key, true);
        let evicted = self.evict(at);
        self.oracle.evicted.extend(evicted);
    }

    /// Where a new key of this slot goes that a client brings here: of a slot that is given away, to the receiver, if that
    /// takes it (`ASK`).
    pub(crate) fn sent_on(&self, at: usize, slot: Slot) -> Option<usize> {
        let given = |o: &OpenSlot| match o {
            OpenSlot::Migrating { slot: open, to } if *open == slot => Some(*to),
            OpenSlot::Migrating { .. } | OpenSlot::Importing { .. } => None,
        };
        let Some(to) = self.seats[at].node.as_ref()?.open.iter().find_map(given) else {
            return Some(at);
        };
        let there = self.home(to).filter(|i| self.answers(*i))?;
        let node = self.seats[there].node.as_ref()?;
        let takes = node.is_primary() && node.state_ok && node.importing(slot);
        takes.then_some(there)
    }

    /// The number of a new write.
    pub(crate) fn new_key(&mut self, slot: Slot) -> Key {
        let number = u32::try_from(self.writes.len()).expect("a history has few writes");
        self.writes.push(Write { at: self.now });
        (slot.number(), number)
    }

    /// Adds or removes a key at a primary, and sends the change to its replicas.
    pub(crate) fn change(&mut self, at: usize, key: Key, add: bool) {
        let Some(node) = self.seats[at].node.as_mut() else {
            return;
        };
        if add {
            node.data.insert(key);
        } else {
            node.data.remove(&key);
        }
        self.stream(at, Some(key), add, facts::WRITE_BYTES);
    }

    /// Sends something to the replicas of a primary.
    pub(crate) fn stream(&mut self, at: usize, key: Option<Key>, add: bool, bytes: u64) {
        let now = self.now;
        let Some(node) = self.seats[at].node.as_mut() else {
            return;
        };
        node.offset += bytes;
        let (id, run, offset) = (node.id, node.run, node.offset);
        for to in 0..self.seats.len() {
            let Some(replica) = self.seats[to].node.as_ref() else {
                continue;
            };
            if !replica.copying.up || replica.copying.from != Some((id, run)) {
                continue;
            }
            let lag = self.net.within(facts::STREAM_MS) + self.net.below(self.slow_stream_ms + 1);
            let stream = Stream {
                from: at,
                run: replica.run,
                link: replica.copying.link,
                key,
                add,
                offset,
            };
            let node = self.seats[at].node.as_mut().expect("it just wrote");
            let last = node.sending.entry(to).or_insert(now);
            let due = (now + lag).max(*last);
            *last = due;
            self.after(due - now, Event::Stream { to, stream });
        }
    }

    pub(crate) fn draw_disk(&mut self, range: (u64, u64)) -> u64 {
        self.disk.within(range)
    }
}
