//! Which replica goes to which primary: by where they really run.

use std::collections::{BTreeMap, BTreeSet};

use shardwright_topology::{NodeId, Place};

/// A primary that has, or needs, replicas.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    pub(crate) primary: NodeId,
    pub(crate) place: Place,
    pub(crate) replicas: Vec<Place>,
    /// How many replicas it should have.
    pub(crate) want: u16,
}

/// Who copies whom.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Pairing {
    /// Replica and primary.
    pub pairs: Vec<(NodeId, NodeId)>,
    /// Pairs on one host, because there was no other choice.
    pub unspread: Vec<Unspread>,
}

/// A replica on its primary's host.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Unspread {
    /// The replica.
    pub replica: NodeId,
    /// Its primary.
    pub primary: NodeId,
    /// Their host.
    pub host: String,
}

/// Pairs new primaries with free nodes, `per_shard` replicas each.
pub fn pair(primaries: &[(NodeId, Place)], free: &[(NodeId, Place)], per_shard: u16) -> Pairing {
    let seats: Vec<Seat> = primaries
        .iter()
        .map(|(id, place)| Seat {
            primary: *id,
            place: place.clone(),
            replicas: Vec::new(),
            want: per_shard,
        })
        .collect();
    fill(&seats, free)
}

/// Fills the seats that lack replicas: the emptiest shard first; never on the primary's host while another choice
/// exists, nor in its zone where zones exist. Swaps until no swap helps: as each primary forbids but one host, this
/// ends at as few pairs on one host as there can be.
pub(crate) fn fill(seats: &[Seat], free: &[(NodeId, Place)]) -> Pairing {
    let open = open_seats(seats, free.len());
    if open.is_empty() {
        return Pairing::default();
    }
    let mut board = Board::new(seats, free, open);
    board.seat_all();
    while board.improve() {}
    let mut out = Pairing::default();
    for (seat, f) in board.open.iter().zip(&board.taken) {
        let (primary, replica) = (&seats[*seat], &free[*f]);
        out.pairs.push((replica.0, primary.primary));
        let shared = primary.place.same_host(&replica.1);
        if let Some(host) = primary.place.host.as_ref().filter(|_| shared) {
            out.unspread.push(Unspread {
                replica: replica.0,
                primary: primary.primary,
                host: host.clone(),
            });
        }
    }
    out
}

/// The seats to be filled, each as often as it lacks a replica: first those with none, then those with one.
fn open_seats(seats: &[Seat], free: usize) -> Vec<usize> {
    let mut open = Vec::new();
    let deepest = seats.iter().map(|s| usize::from(s.want)).max().unwrap_or(0);
    for level in 0..deepest {
        let lacks =
            |i: &usize| seats[*i].replicas.len() <= level && level < usize::from(seats[*i].want);
        open.extend((0..seats.len()).filter(lacks));
        if open.len() >= free {
            break;
        }
    }
    open.truncate(free);
    open
}

/// A host and a zone as small numbers; none when it is not known.
type Spot = (Option<usize>, Option<usize>);

/// How many replicas of a shard are on each host and in each zone.
#[derive(Clone, Default)]
struct Crowd {
    hosts: BTreeMap<usize, u32>,
    zones: BTreeMap<usize, u32>,
}

impl Crowd {
    fn add(&mut self, at: Spot) {
        if let Some(host) = at.0 {
            *self.hosts.entry(host).or_default() += 1;
        }
        if let Some(zone) = at.1 {
            *self.zones.entry(zone).or_default() += 1;
        }
    }

    fn remove(&mut self, at: Spot) {
        if let Some(n) = at.0.and_then(|host| self.hosts.get_mut(&host)) {
            *n = n.saturating_sub(1);
        }
        if let Some(n) = at.1.and_then(|zone| self.zones.get_mut(&zone)) {
            *n = n.saturating_sub(1);
        }
    }
}

/// The state of a pairing under way. Costs are kept by counts, so that a look at a thousand nodes stays cheap even
/// where all are on one host.
struct Board {
    /// Where each seat's primary is.
    primaries: Vec<Spot>,
    /// Where each free node is.
    free: Vec<Spot>,
    /// Where each seat's replicas are: those it had, and those seated here.
    crowds: Vec<Crowd>,
    /// The seats to fill.
    open: Vec<usize>,
    /// Which free node sits on each of `open`.
    taken: Vec<usize>,
    /// The free nodes that sit nowhere, by spot, in their order.
    unused: BTreeMap<Spot, BTreeSet<usize>>,
}

impl Board {
    fn new(seats: &[Seat], free: &[(NodeId, Place)], open: Vec<usize>) -> Self {
        let mut names = Names::default();
        let primaries = seats.iter().map(|s| names.spot(&s.place)).collect();
        let mut crowds = vec![Crowd::default(); seats.len()];
        for (crowd, seat) in crowds.iter_mut().zip(seats) {
            for place in &seat.replicas {
                crowd.add(names.spot(place));
            }
        }
        let free: Vec<Spot> = free.iter().map(|(_, place)| names.spot(place)).collect();
        let mut unused: BTreeMap<Spot, BTreeSet<usize>> = BTreeMap::new();
        for (f, spot) in free.iter().enumerate() {
            unused.entry(*spot).or_default().insert(f);
        }
        Self {
            primaries,
            free,
            crowds,
            open,
            taken: Vec::new(),
            unused,
        }
    }

    /// What it costs to have a replica at this spot: the primary's host weighs more than all else together, then a
    /// sibling's host, then zones.
    fn cost(&self, seat: usize, at: Spot) -> u32 {
        let (host, zone) = self.primaries[seat];
        let crowd = &self.crowds[seat];
        let count = |of: &BTreeMap<usize, u32>, key: Option<usize>| {
            key.and_then(|k| of.get(&k)).map_or(0, |n| (*n).min(999))
        };
        let same = |a: Option<usize>, b: Option<usize>| u32::from(a.is_some() && a == b);
        10_000_000 * same(host, at.0)
            + 1_000 * count(&crowd.hosts, at.0)
            + 100 * same(zone, at.1)
            + count(&crowd.zones, at.1).min(99)
    }

    /// The unused node that costs least at this seat; of equals the first.
    fn best(&self, seat: usize) -> Option<(u32, usize)> {
        self.unused
            .iter()
            .filter_map(|(spot, nodes)| Some((self.cost(seat, *spot), *nodes.first()?)))
            .min()
    }

    fn seat_all(&mut self) {
        for k in 0..self.open.len() {
            let seat = self.open[k];
            let Some((_, f)) = self.best(seat) else {
                return;
            };
            self.use_up(f);
            self.crowds[seat].add(self.free[f]);
            self.taken.push(f);
        }
    }

    fn use_up(&mut self, f: usize) {
        if let Some(nodes) = self.unused.get_mut(&self.free[f]) {
            nodes.remove(&f);
        }
    }

    /// One round of changes for the better. Each lowers the total cost, so the rounds end.
    fn improve(&mut self) -> bool {
        let mut changed = false;
        for i in 0..self.taken.len() {
            let (seat, f) = (self.open[i], self.taken[i]);
            let at = self.free[f];
            self.crowds[seat].remove(at);
            let before = self.cost(seat, at);
            match self.best(seat).filter(|(cost, _)| *cost < before) {
                Some((_, better)) => {
                    self.unused.entry(at).or_default().insert(f);
                    self.use_up(better);
                    self.taken[i] = better;
                    changed = true;
                }
                None if before > 0 => changed |= self.swap(i, before),
                None => {}
            }
            self.crowds[seat].add(self.free[self.taken[i]]);
        }
        changed
    }

    /// Swaps the node of `i`, which is counted out, with the first for which both together become cheaper.
    fn swap(&mut self, i: usize, before: u32) -> bool {
        let (seat, at) = (self.open[i], self.free[self.taken[i]]);
        for j in 0..self.taken.len() {
            let (other, there) = (self.open[j], self.free[self.taken[j]]);
            if other == seat || there == at {
                continue;
            }
            let here = self.cost(seat, there);
            self.crowds[other].remove(there);
            let won = here + self.cost(other, at) < before + self.cost(other, there);
            self.crowds[other].add(if won { at } else { there });
            if won {
                self.taken.swap(i, j);
                return true;
            }
        }
        false
    }
}

/// Numbers for the names of hosts and zones.
#[derive(Default)]
struct Names<'a> {
    hosts: BTreeMap<&'a str, usize>,
    zones: BTreeMap<&'a str, usize>,
}

impl<'a> Names<'a> {
    fn spot(&mut self, place: &'a Place) -> Spot {
        fn number<'a>(names: &mut BTreeMap<&'a str, usize>, name: &'a str) -> usize {
            let next = names.len();
            *names.entry(name).or_insert(next)
        }
        (
            place.host.as_deref().map(|h| number(&mut self.hosts, h)),
            place.zone.as_deref().map(|z| number(&mut self.zones, z)),
        )
    }
}
