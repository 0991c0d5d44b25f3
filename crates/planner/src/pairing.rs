//! Which replica goes to which primary: by where they really run.

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
/// exists, nor in its zone where zones exist. Swaps until no swap helps: for one forbidden host per pair, this ends
/// at as few bad pairs as there can be.
pub(crate) fn fill(seats: &[Seat], free: &[(NodeId, Place)]) -> Pairing {
    let mut open: Vec<usize> = Vec::new();
    let deepest = seats.iter().map(|s| usize::from(s.want)).max().unwrap_or(0);
    for level in 0..deepest {
        open.extend(
            (0..seats.len()).filter(|i| {
                seats[*i].replicas.len() <= level && level < usize::from(seats[*i].want)
            }),
        );
    }
    open.truncate(free.len());
    let mut taken: Vec<usize> = Vec::new(); // taken[k]: which free node sits on open[k]
    for (k, seat) in open.iter().enumerate() {
        let best = (0..free.len())
            .filter(|f| !taken.contains(f))
            .min_by_key(|f| {
                (
                    cost(seats, &open[..k], &taken, *seat, &free[*f].1, free),
                    *f,
                )
            });
        taken.extend(best);
    }
    improve(seats, free, &open, &mut taken);
    let mut out = Pairing::default();
    for (seat, f) in open.iter().zip(&taken) {
        let (primary, replica) = (&seats[*seat], &free[*f]);
        out.pairs.push((replica.0, primary.primary));
        if let Some(host) = primary
            .place
            .host
            .as_ref()
            .filter(|_| primary.place.same_host(&replica.1))
        {
            out.unspread.push(Unspread {
                replica: replica.0,
                primary: primary.primary,
                host: host.clone(),
            });
        }
    }
    out
}

/// What it costs to seat a node at this place: the primary's host weighs most, then a sibling's, then zones.
fn cost(
    seats: &[Seat],
    open: &[usize],
    taken: &[usize],
    seat: usize,
    place: &Place,
    free: &[(NodeId, Place)],
) -> u32 {
    let primary = &seats[seat].place;
    let seated = open
        .iter()
        .zip(taken)
        .filter(|(s, _)| **s == seat)
        .map(|(_, f)| &free[*f].1);
    let siblings = seats[seat].replicas.iter().chain(seated);
    let mut cost =
        1000 * u32::from(primary.same_host(place)) + 10 * u32::from(primary.same_zone(place));
    for sibling in siblings {
        cost += 100 * u32::from(sibling.same_host(place)) + u32::from(sibling.same_zone(place));
    }
    cost
}

fn pair_cost(
    seats: &[Seat],
    free: &[(NodeId, Place)],
    open: &[usize],
    taken: &[usize],
    k: usize,
) -> u32 {
    let without: (Vec<usize>, Vec<usize>) = open
        .iter()
        .zip(taken)
        .enumerate()
        .filter(|(i, _)| *i != k)
        .map(|(_, (s, f))| (*s, *f))
        .unzip();
    cost(
        seats,
        &without.0,
        &without.1,
        open[k],
        &free[taken[k]].1,
        free,
    )
}

fn improve(seats: &[Seat], free: &[(NodeId, Place)], open: &[usize], taken: &mut [usize]) {
    // Every accepted change lowers the total cost, so this ends; only pairs that cost something are looked at.
    loop {
        let mut changed = false;
        for i in 0..taken.len() {
            if pair_cost(seats, free, open, taken, i) == 0 {
                continue;
            }
            changed |= improve_one(seats, free, open, taken, i);
        }
        if !changed {
            return;
        }
    }
}

fn improve_one(
    seats: &[Seat],
    free: &[(NodeId, Place)],
    open: &[usize],
    taken: &mut [usize],
    i: usize,
) -> bool {
    let before_i = pair_cost(seats, free, open, taken, i);
    for unused in 0..free.len() {
        if taken.contains(&unused) {
            continue;
        }
        let old = std::mem::replace(&mut taken[i], unused);
        if pair_cost(seats, free, open, taken, i) < before_i {
            return true;
        }
        taken[i] = old;
    }
    for j in 0..taken.len() {
        if open[i] == open[j] {
            continue;
        }
        let before = before_i + pair_cost(seats, free, open, taken, j);
        taken.swap(i, j);
        if pair_cost(seats, free, open, taken, i) + pair_cost(seats, free, open, taken, j) < before
        {
            return true;
        }
        taken.swap(i, j);
    }
    false
}
