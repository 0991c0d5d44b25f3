//! What can go wrong, and how it is done to the model.

use std::collections::BTreeSet;

use shardwright_topology::{OpenSlot, Place, Slot, SlotSet, Tied, Timestamp};

use crate::commands::Command;
use crate::model::{Model, Persistence};
use crate::node::Node;
use crate::operator::Operator;

/// Something that goes wrong, or is mended.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    Kill(Vec<usize>),
    /// kill -9 that leaves a replica with a table that it refuses to load.
    Tear(usize),
    /// Killed, and comes back at a new address.
    Move(Vec<usize>),
    /// Killed, and comes back on another host, at a new address, with its disk.
    Rehost(usize, Place),
    /// A host is away, with all its servers and the volumes that tie them to it: it lost power, or only the network.
    HostAway(String, bool),
    HostBack(String),
    /// Both killed; each comes back at the other's address.
    Swap(usize, usize),
    Wipe(Vec<usize>),
    /// Killed, and its table of nodes is gone, but not its data.
    LoseTable(usize),
    /// Cut off from the other nodes, in one direction or both.
    Isolate(usize, Direction),
    /// These cannot talk to the rest.
    Split(BTreeSet<usize>),
    MendNet,
    OperatorCut(BTreeSet<usize>),
    OperatorMend,
    /// Its announced address refuses clients, though it lives: a wrong port, or a firewall.
    Refuse(usize),
    Listen(usize),
    Freeze(usize),
    Thaw(usize),
    SlowBus(u64),
    SlowStream(u64),
    /// Full copies take so much longer.
    SlowCopy(u64),
    /// Whoever is being copied in full just now is killed.
    KillCopied,
    /// Killed, and comes back at a new address that its replicas cannot reach for a while: they learn it from others.
    MoveUnseen(usize),
    OperatorCrash,
    /// A process of another cluster listens where this server was.
    Stranger(usize),
    StrangerLeaves(usize),
    /// A server is started on a copy of another's disk: two processes have one id.
    CopyDisk {
        of: usize,
        at: usize,
    },
    /// Two groups of nodes forget one another.
    Estrange(BTreeSet<usize>),
    /// A slot's move was broken off, with so many of four keys moved.
    OpenSlot(u16, usize),
    /// The same, and then a person closed it at both ends: the keys that moved are in a slot that their node does not own.
    StrayKeys(u16, usize),
    /// A server's memory limit lets it hold so many keys more than it has.
    Limit(usize, u64),
    /// Somebody gives it more memory.
    Unlimit(usize),
    /// Someone else than the planner starts a dead server again.
    Restart(usize),
    /// A person asks for something.
    Ask(Ask),
}

/// The kinds of faults, for counting.
pub(crate) const KINDS: [&str; 40] = [
    "kill",
    "kill several",
    "new address",
    "new addresses",
    "new host",
    "host without power",
    "host without network",
    "addresses swapped",
    "directory lost",
    "directories lost",
    "isolated",
    "isolated one way",
    "split",
    "operator cut off",
    "address refuses",
    "frozen",
    "slow bus",
    "slow replication",
    "slow copies",
    "copied one killed",
    "new address unseen",
    "operator crash",
    "lost reply",
    "doubled command",
    "stranger",
    "disk copied",
    "two islands",
    "open slot",
    "memory limit",
    "stray keys",
    "started by others",
    "asked: switchover",
    "asked: force",
    "asked: leave",
    "asked: join",
    "asked: assign",
    "more shards",
    "fewer shards",
    "more replicas",
    "edit reverted",
];

/// What a person asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ask {
    Switchover(usize),
    Force(usize),
    Takeover(usize),
    Leave(usize),
    Join,
    /// Some slots are to belong to this one.
    Assign(usize),
    Nothing,
}

/// Which way nothing gets through.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Direction {
    In,
    Out,
    Both,
}

impl Fault {
    /// Its kind, for counting; none for what mends.
    pub(crate) fn kind(&self) -> Option<&'static str> {
        match self {
            Self::Kill(seats) if seats.len() == 1 => Some("kill"),
            Self::Kill(_) => Some("kill several"),
            Self::Tear(_) => Some("table torn"),
            Self::Move(seats) if seats.len() == 1 => Some("new address"),
            Self::Move(_) => Some("new addresses"),
            Self::Rehost(..) => Some("new host"),
            Self::HostAway(_, true) => Some("host without power"),
            Self::HostAway(_, false) => Some("host without network"),
            Self::Swap(..) => Some("addresses swapped"),
            Self::LoseTable(_) => Some("table lost"),
            Self::Wipe(seats) if seats.len() == 1 => Some("directory lost"),
            Self::Wipe(_) => Some("directories lost"),
            Self::Isolate(_, Direction::Both) => Some("isolated"),
            Self::Isolate(..) => Some("isolated one way"),
            Self::Split(_) => Some("split"),
            Self::OperatorCut(_) => Some("operator cut off"),
            Self::Refuse(_) => Some("address refuses"),
            Self::Freeze(_) => Some("frozen"),
            Self::SlowBus(ms) if *ms > 0 => Some("slow bus"),
            Self::SlowStream(ms) if *ms > 0 => Some("slow replication"),
            Self::SlowCopy(ms) if *ms > 0 => Some("slow copies"),
            Self::KillCopied => Some("copied one killed"),
            Self::MoveUnseen(_) => Some("new address unseen"),
            Self::OperatorCrash => Some("operator crash"),
            Self::Stranger(_) => Some("stranger"),
            Self::CopyDisk { .. } => Some("disk copied"),
            Self::Estrange(_) => Some("two islands"),
            Self::OpenSlot(..) => Some("open slot"),
            Self::Limit(..) => Some("memory limit"),
            Self::StrayKeys(..) => Some("stray keys"),
            Self::Restart(_) => Some("started by others"),
            Self::Ask(Ask::Switchover(_)) => Some("asked: switchover"),
            Self::Ask(Ask::Force(_)) => Some("asked: force"),
            Self::Ask(Ask::Takeover(_)) => Some("asked: takeover"),
            Self::Ask(Ask::Leave(_)) => Some("asked: leave"),
            Self::Ask(Ask::Join) => Some("asked: join"),
            Self::Ask(Ask::Assign(_)) => Some("asked: assign"),
            Self::MendNet
            | Self::OperatorMend
            | Self::HostBack(_)
            | Self::Thaw(_)
            | Self::Listen(_)
            | Self::SlowBus(_)
            | Self::SlowStream(_)
            | Self::SlowCopy(_)
            | Self::StrangerLeaves(_)
            | Self::Unlimit(_)
            | Self::Ask(Ask::Nothing) => None,
        }
    }

    /// Does it. What a person asks for is the history's to do.
    pub(crate) fn strike(&self, model: &mut Model, operator: &mut Operator) {
        match self {
            Self::Kill(seats) => kill(seats, model, operator),
            Self::Tear(seat) => {
                kill(&[*seat], model, operator);
                tear(*seat, model, operator);
            }
            Self::Move(seats) => {
                kill(seats, model, operator);
                for seat in seats {
                    model.seats[*seat].at = model.fresh_address();
                }
            }
            Self::Rehost(seat, place) => rehost(*seat, place, model, operator),
            Self::HostAway(host, power) => host_away(host, *power, model, operator),
            Self::HostBack(host) => host_back(host, model),
            Self::Swap(a, b) => swap([*a, *b], model, operator),
            Self::Wipe(seats) => {
                kill(seats, model, operator);
                for seat in seats {
                    if !model.seats[*seat].foreign {
                        model.wipe(*seat);
                    }
                }
            }
            Self::LoseTable(seat) => lose_table(*seat, model, operator),
            Self::Isolate(seat, direction) => isolate(*seat, *direction, model),
            Self::Split(group) => split(group, model),
            Self::MendNet => model.cut.clear(),
            Self::OperatorCut(seats) => {
                model.operator_cut.clone_from(seats);
                for seat in seats {
                    model.disturb(*seat);
                }
            }
            Self::OperatorMend => {
                let seats = std::mem::take(&mut model.operator_cut);
                for seat in seats {
                    model.disturb(seat);
                }
            }
            Self::Refuse(seat) => refuse(*seat, true, model),
            Self::Listen(seat) => refuse(*seat, false, model),
            Self::Freeze(seat) => {
                model.freeze(*seat);
                model.disturb(*seat);
            }
            Self::Thaw(seat) => {
                model.thaw(*seat);
                model.disturb(*seat);
            }
            Self::SlowBus(ms) => model.slow_bus_ms = *ms,
            Self::SlowStream(ms) => model.slow_stream_ms = *ms,
            Self::SlowCopy(ms) => model.slow_copy_ms = *ms,
            Self::KillCopied => kill(&copied(model), model, operator),
            Self::MoveUnseen(seat) => move_unseen(*seat, model, operator),
            Self::OperatorCrash => operator.crash(model),
            Self::Stranger(seat) => stranger(*seat, model),
            Self::StrangerLeaves(seat) => stranger_leaves(*seat, model),
            Self::CopyDisk { of, at } => copy_disk(*of, *at, model, operator),
            Self::Estrange(group) => estrange(group, model),
            Self::OpenSlot(slot, moved) => {
                open_slot(*slot, *moved, model);
            }
            Self::StrayKeys(slot, moved) => leave_stray_keys(*slot, *moved, model),
            Self::Limit(seat, more) => limit(*seat, *more, model),
            Self::Unlimit(seat) => model.seats[*seat].keys_max = None,
            Self::Restart(seat) => restart(*seat, model, operator),
            Self::Ask(_) => {}
        }
    }
}

/// A process ends, and starts on another host at another address.
fn rehost(seat: usize, place: &Place, model: &mut Model, operator: &mut Operator) {
    kill(&[seat], model, operator);
    model.seats[seat].at = model.fresh_address();
    // It keeps its number: a pod that is made anew elsewhere has the same name.
    let leave_rank = model.seats[seat].place.leave_rank;
    model.seats[seat].place = Place {
        leave_rank,
        ..place.clone()
    };
}

/// Two processes end, and start again at one another's addresses.
fn swap([a, b]: [usize; 2], model: &mut Model, operator: &mut Operator) {
    kill(&[a, b], model, operator);
    let at = model.seats[a].at;
    model.seats[a].at = model.seats[b].at;
    model.seats[b].at = at;
}

/// A move is begun and closed at both ends: keys lie where nobody asks for them.
fn leave_stray_keys(slot: u16, moved: usize, model: &mut Model) {
    let Some((slot, ends)) = open_slot(slot, moved, model) else {
        return;
    };
    for seat in ends {
        // One that refuses shows it open: then that is what is left.
        let closed = model.command(seat, &Command::Close(slot));
        let name = model.seats[seat].name.clone();
        let what = format_args!("slot {slot} is closed at {name}: {closed:?}");
        model.trace.note(model.now, what);
    }
}

/// A process ends, and finds no table of nodes when it starts again.
fn lose_table(seat: usize, model: &mut Model, operator: &mut Operator) {
    kill(&[seat], model, operator);
    if !model.seats[seat].foreign {
        model.lose_table(seat);
    }
}

/// The servers of which somebody takes a full copy.
fn copied(model: &Model) -> Vec<usize> {
    let running = model.seats.iter().filter(|s| s.running && !s.foreign);
    let takes = running.filter_map(|s| s.node.as_ref());
    let of = takes.filter(|n| n.copying.busy.is_some_and(|(_, full)| full));
    let of: BTreeSet<_> = of
        .filter_map(|n| Some((n.copying.from?.0, n.me().primary?)))
        .filter(|(from, primary)| from == primary)
        .map(|(from, _)| from)
        .collect();
    let home = |id| model.home(id).filter(|i| model.seats[*i].running);
    of.into_iter().filter_map(home).collect()
}

fn move_unseen(seat: usize, model: &mut Model, operator: &mut Operator) {
    let Some(id) = model.seats[seat].node.as_ref().map(|n| n.id) else {
        return;
    };
    kill(&[seat], model, operator);
    model.seats[seat].at = model.fresh_address();
    let follows = |s: &crate::model::Seat| {
        let node = s.node.as_ref();
        node.is_some_and(|n| n.me().primary == Some(id))
    };
    for other in (0..model.seats.len()).filter(|i| follows(&model.seats[*i])) {
        model.cut.extend([(seat, other), (other, seat)]);
    }
}

fn refuse(seat: usize, refuses: bool, model: &mut Model) {
    if refuses {
        model.refusing.insert(seat);
    } else {
        model.refusing.remove(&seat);
    }
    model.disturb(seat);
}

fn kill(seats: &[usize], model: &mut Model, operator: &mut Operator) {
    for seat in seats
        .iter()
        .filter(|i| !model.seats[**i].foreign)
        .copied()
        .collect::<Vec<_>>()
    {
        model.kill(seat);
        model.disturb(seat);
    }
    // A held connection closes at once where the operator has one.
    if seats.iter().any(|s| !model.operator_cut.contains(s)) {
        operator.wake(model);
    }
}

fn host_away(host: &str, power: bool, model: &mut Model, operator: &mut Operator) {
    let here = |s: &crate::model::Seat| s.place.host.as_deref() == Some(host) && !s.foreign;
    let seats: Vec<usize> = (0..model.seats.len())
        .filter(|i| here(&model.seats[*i]))
        .collect();
    let away_since = Some(Timestamp(model.now));
    for seat in &seats {
        if power {
            model.kill(*seat);
        } else {
            isolate(*seat, Direction::Both, model);
        }
        model.disturb(*seat);
        model.operator_cut.insert(*seat);
        let place = &mut model.seats[*seat].place;
        place.away_since = away_since;
        place.tied = Some(Tied {
            host: host.to_owned(),
            away_since,
        });
    }
    operator.wake(model);
}

/// The network is mended by itself.
fn host_back(host: &str, model: &mut Model) {
    for seat in 0..model.seats.len() {
        let place = &mut model.seats[seat].place;
        if place.tied.take_if(|tied| tied.host == host).is_some() {
            place.away_since = None;
            model.operator_cut.remove(&seat);
            model.disturb(seat);
        }
    }
}

/// Only of a replica: of a primary, a person would have to mend the table.
fn tear(seat: usize, model: &mut Model, operator: &Operator) {
    let managed = operator.desired.authority == shardwright_planner::Authority::Managed;
    let s = &mut model.seats[seat];
    if let Some(node) = s.node.as_mut().filter(|n| managed && !n.is_primary()) {
        node.torn = !s.running && !s.foreign;
    }
}

/// A start by a person or the machine's own supervisor. Where we run the servers, the start gate holds one that
/// would come back as an old or empty primary.
fn restart(seat: usize, model: &mut Model, operator: &mut Operator) {
    let managed = operator.desired.authority == shardwright_planner::Authority::Managed;
    let s = &model.seats[seat];
    let owns = s
        .node
        .as_ref()
        .is_some_and(|n| n.is_primary() && !n.me().slots.is_empty());
    let held = managed && owns && s.persistence == Persistence::Off;
    if !held && !s.running && s.listed {
        model.start(seat, false);
        model.disturb(seat);
    }
}

fn isolate(seat: usize, direction: Direction, model: &mut Model) {
    for other in (0..model.seats.len()).filter(|o| *o != seat) {
        if matches!(direction, Direction::Out | Direction::Both) {
            model.cut.insert((seat, other));
        }
        if matches!(direction, Direction::In | Direction::Both) {
            model.cut.insert((other, seat));
        }
    }
    let name = model.seats[seat].name.clone();
    model
        .trace
        .note(model.now, format_args!("{name} is cut off ({direction:?})"));
}

fn split(group: &BTreeSet<usize>, model: &mut Model) {
    for a in 0..model.seats.len() {
        for b in 0..model.seats.len() {
            if group.contains(&a) != group.contains(&b) {
                model.cut.insert((a, b));
            }
        }
    }
    model
        .trace
        .note(model.now, format_args!("servers {group:?} are split off"));
}

fn stranger(seat: usize, model: &mut Model) {
    if model.seats[seat].running || model.seats[seat].foreign {
        return;
    }
    let (now, at, profile) = (model.now, model.seats[seat].at, model.profile);
    let id = model.fresh_id();
    let run = model.next_run();
    let mut node = Node::blank(id, at, profile, run, now);
    node.own(id, &SlotSet::all());
    node.me_mut().epoch = 9;
    node.current_epoch = 9;
    node.data.insert((0, u32::MAX));
    let name = model.seats[seat].name.clone();
    model
        .trace
        .note(now, format_args!("a stranger listens at {name}"));
    take_place(seat, node, model);
}

/// A process that is not the cluster's own runs where a server was.
fn take_place(seat: usize, node: Node, model: &mut Model) {
    let (now, run) = (model.now, node.run);
    let s = &mut model.seats[seat];
    s.stash = s.node.replace(node);
    s.foreign = true;
    s.running = true;
    // Whatever comes of it is not of our doing.
    s.started_by_us = false;
    s.frozen = false;
    s.loads_until = now;
    model.after(
        crate::facts::TICK_MS,
        crate::model::Event::Tick { seat, run },
    );
}

/// Somebody ends a server and starts it again on a copy of another's disk, which that one keeps.
fn copy_disk(of: usize, at: usize, model: &mut Model, operator: &mut Operator) {
    let [source, place] = [of, at].map(|i| &model.seats[i]);
    let Some(mut node) = source.node.clone().filter(|n| !n.torn && !n.table_lost) else {
        return;
    };
    if of == at || source.foreign || place.foreign || !place.listed {
        return;
    }
    if source.persistence == Persistence::Off {
        node.data.clear();
    }
    kill(&[at], model, operator);
    let (now, address, run) = (model.now, model.seats[at].at, model.next_run());
    node.stop();
    node.start(address, run, now);
    let [of, name] = [of, at].map(|i| model.seats[i].name.clone());
    let what = format_args!("{name} runs on a copy of the disk of {of}");
    model.trace.note(now, what);
    take_place(at, node, model);
}

fn stranger_leaves(seat: usize, model: &mut Model) {
    if !model.seats[seat].foreign {
        return;
    }
    let now = model.now;
    let s = &mut model.seats[seat];
    s.foreign = false;
    s.running = false;
    s.died = Some(now);
    s.node = s.stash.take();
    let name = s.name.clone();
    model
        .trace
        .note(now, format_args!("the stranger at {name} leaves"));
}

fn estrange(group: &BTreeSet<usize>, model: &mut Model) {
    let ids: Vec<_> = model
        .seats
        .iter()
        .map(|s| s.node.as_ref().filter(|_| !s.foreign).map(|n| n.id))
        .collect();
    for a in 0..ids.len() {
        for (b, id) in ids.iter().enumerate() {
            let (Some(id), true) = (id, group.contains(&a) != group.contains(&b)) else {
                continue;
            };
            let Some(node) = model.seats[a].node.as_mut().filter(|n| n.id != *id) else {
                continue;
            };
            if node.me().primary != Some(*id) {
                node.peers.remove(id);
                node.banned
                    .insert(*id, model.now + crate::facts::FORGET_BAN_MS);
            }
        }
    }
    model
        .trace
        .note(model.now, format_args!("servers {group:?} are estranged"));
}

/// Somebody began to move a slot, and was broken off. Returns the slot and the two servers.
fn open_slot(slot: u16, moved: usize, model: &mut Model) -> Option<(Slot, [usize; 2])> {
    let slot = Slot::new(u64::from(slot)).ok()?;
    let primaries: Vec<usize> = (0..model.seats.len())
        .filter(|i| model.answers(*i) && !model.seats[*i].foreign)
        .filter(|i| {
            model.seats[*i]
                .node
                .as_ref()
                .is_some_and(|n| n.me().votes() && n.state_ok)
        })
        .collect();
    let takes = |i: &usize| {
        let node = model.seats[*i].node.as_ref();
        node.is_some_and(|n| n.takes_writes(slot))
    };
    let owner = primaries.iter().copied().find(takes);
    let target = owner.and_then(|o| primaries.iter().copied().find(|i| *i != o));
    let (owner, target) = (owner?, target?);
    let id = |i: usize, m: &Model| m.seats[i].node.as_ref().map(|n| n.id);
    let (from, to) = (id(owner, model)?, id(target, model)?);
    for _ in 0..4 {
        let key = model.new_key(slot);
        model.change(owner, key, true);
    }
    let opened = model
        .command(target, &Command::Importing(slot, from))
        .and_then(|()| model.command(owner, &Command::Migrating(slot, to)));
    let most = if moved >= 4 {
        u32::MAX
    } else {
        u32::try_from(moved).unwrap_or(u32::MAX)
    };
    let done = opened.and_then(|()| model.move_keys(owner, target, slot, most));
    for seat in [owner, target] {
        let evicted = model.evict(seat);
        model.oracle.evicted.extend(evicted);
    }
    let (a, b) = (
        model.seats[owner].name.clone(),
        model.seats[target].name.clone(),
    );
    model.trace.note(
        model.now,
        format_args!("slot {slot} is left open between {a} and {b}: {done:?}"),
    );
    Some((slot, [owner, target]))
}

/// Keys that a primary holds of slots that it does not own, for the end of a history.
pub(crate) fn stray_keys(node: &Node) -> usize {
    let own = |number: u16| {
        let slot = Slot::new(u64::from(number));
        slot.is_ok_and(|slot| node.me().slots.contains(slot))
    };
    let strays = node.data.iter().filter(|(number, _)| !own(*number));
    if node.is_primary() { strays.count() } else { 0 }
}

/// `CONFIG SET maxmemory`, at a cache that is nearly full.
fn limit(seat: usize, more: u64, model: &mut Model) {
    let held = model.seats[seat]
        .node
        .as_ref()
        .map_or(0, |n| n.data.len() as u64);
    model.seats[seat].keys_max = Some(held + more);
    let name = model.seats[seat].name.clone();
    let (now, most) = (model.now, held + more);
    model
        .trace
        .note(now, format_args!("{name} may hold {most} keys"));
}

/// The slots a node shows open, for the end of a history.
pub(crate) fn open_slots(node: &Node) -> usize {
    node.open
        .iter()
        .filter(|o| matches!(o, OpenSlot::Migrating { .. } | OpenSlot::Importing { .. }))
        .count()
}
