//! How the primaries are spread over hosts and zones: a place that is cut off takes the votes of its primaries along.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use shardwright_topology::Place;

use super::SharedPlace;

/// Of fewer primaries no majority is left by the loss of one, wherever they are.
const VOTERS_MIN: usize = 3;

/// A host or a zone, and how many of all primaries it holds.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PrimariesAt {
    /// The host or the zone.
    pub place: SharedPlace,
    /// How many primaries with slots it holds.
    pub primaries: usize,
    /// Of how many.
    pub of: usize,
}

impl PrimariesAt {
    /// Over how many such places so many primaries have to be spread at least, so that a majority is left whichever
    /// place is lost.
    pub(crate) fn places_min(&self) -> usize {
        self.of.div_ceil(most_to_lose(self.of).max(1))
    }
}

impl fmt::Display for PrimariesAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (held, of) = (self.primaries, self.of);
        match &self.place {
            SharedPlace::Host(host) => write!(f, "host {host} holds {held} of {of} primaries"),
            SharedPlace::Zone(zone) => write!(f, "zone {zone} holds {held} of {of} primaries"),
        }
    }
}

/// How many of so many voters may be lost with a majority left.
fn most_to_lose(voters: usize) -> usize {
    voters.saturating_sub(1) / 2
}

/// A shard: where its primary is, and where it could be.
pub(crate) struct Leads<'a> {
    /// Where its primary is.
    pub(crate) at: &'a Place,
    /// Where those of its replicas are that could be the primary, the best first.
    pub(crate) or: Vec<&'a Place>,
}

/// A switchover: of which shard, to which of its other places, and which place holds too many primaries.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Turn {
    pub(crate) shard: usize,
    pub(crate) to: usize,
    pub(crate) because: PrimariesAt,
}

/// The places of one kind, hosts or zones, by their names.
struct Level<'a> {
    /// How many primaries each holds.
    loads: BTreeMap<&'a str, usize>,
    /// How many one may hold: its share, and never so many that the others are no majority. All, where there is no other.
    most: usize,
    /// What the loads cost together.
    cost: usize,
}

impl<'a> Level<'a> {
    fn new(names: impl Iterator<Item = &'a str>, voters: usize, places: usize) -> Self {
        let mut loads: BTreeMap<&'a str, usize> = BTreeMap::new();
        for name in names {
            *loads.entry(name).or_insert(0) += 1;
        }
        let most = if voters < VOTERS_MIN || places < 2 {
            voters
        } else {
            voters.div_ceil(places).min(most_to_lose(voters))
        };
        let cost = loads.values().map(|load| excess(*load, most)).sum();
        Self { loads, most, cost }
    }

    fn load(&self, name: &str) -> usize {
        self.loads.get(name).map_or(0, |load| *load)
    }

    fn is_crowded(&self, name: &str) -> bool {
        self.load(name) > self.most
    }

    /// What all would cost if one primary went from there to here.
    fn cost_after(&self, from: Option<&str>, to: Option<&str>) -> usize {
        let (Some(from), Some(to)) = (from, to) else {
            return self.cost;
        };
        if from == to {
            return self.cost;
        }
        let (there, here) = (self.load(from), self.load(to));
        let after = excess(there.saturating_sub(1), self.most) + excess(here + 1, self.most);
        self.cost + after - excess(there, self.most) - excess(here, self.most)
    }

    /// The places without which the others are no majority.
    fn majorities(&self, voters: usize) -> Vec<(&'a str, usize)> {
        if self.most >= voters {
            return Vec::new();
        }
        let loads = self.loads.iter().map(|(name, load)| (*name, *load));
        loads.filter(|(_, load)| 2 * load >= voters).collect()
    }
}

/// What a load costs: by the square, so that two places with one too many are better than one with two.
fn excess(load: usize, most: usize) -> usize {
    let over = load.saturating_sub(most);
    over * over
}

/// How the primaries are spread. Less is better: first for hosts, then for zones.
pub(crate) struct PrimarySpread<'a> {
    voters: usize,
    hosts: Level<'a>,
    zones: Level<'a>,
}

impl<'a> PrimarySpread<'a> {
    /// Of so many voters, those at these places; the cluster runs on so many hosts, in so many zones.
    pub(crate) fn new(places: &[&'a Place], voters: usize, (hosts, zones): (usize, usize)) -> Self {
        let of_host = places.iter().copied().filter_map(|p| p.host.as_deref());
        let of_zone = places.iter().copied().filter_map(|p| p.zone.as_deref());
        Self {
            voters,
            hosts: Level::new(of_host, voters, hosts),
            zones: Level::new(of_zone, voters, zones),
        }
    }

    /// Whether a place holds more than it should.
    pub(crate) fn is_crowded(&self) -> bool {
        (self.hosts.cost, self.zones.cost) != (0, 0)
    }

    /// The hosts without which no majority is left; where there is none, the zones.
    pub(crate) fn majorities(&self) -> Vec<PrimariesAt> {
        let at = |place, primaries| PrimariesAt {
            place,
            primaries,
            of: self.voters,
        };
        let hosts = self.hosts.majorities(self.voters).into_iter();
        let hosts: Vec<PrimariesAt> = hosts
            .map(|(host, load)| at(SharedPlace::Host(host.to_owned()), load))
            .collect();
        if !hosts.is_empty() {
            return hosts;
        }
        let zones = self.zones.majorities(self.voters).into_iter();
        zones
            .map(|(zone, load)| at(SharedPlace::Zone(zone.to_owned()), load))
            .collect()
    }

    /// The switchover that comes first of the fewest by which the primaries are spread better; none where none helps.
    ///
    /// A primary may have to make room at another host first. Then the last of such a chain is done first, which goes to
    /// where there is room: so no host holds more meanwhile, what is left of the chain is the shortest way then, and
    /// nothing need be remembered. As only what ends better is begun, nothing goes back.
    pub(crate) fn first_switchover(&self, shards: &[Leads<'a>]) -> Option<Turn> {
        let mut zones: BTreeMap<&str, &str> = BTreeMap::new();
        let mut by_host: BTreeMap<&'a str, Vec<usize>> = BTreeMap::new();
        for (i, shard) in shards.iter().enumerate() {
            by_host
                .entry(shard.at.host.as_deref()?)
                .or_default()
                .push(i);
            for place in shard.or.iter().copied().chain([shard.at]) {
                if let (Some(host), Some(zone)) = (place.host.as_deref(), place.zone.as_deref()) {
                    zones.insert(host, zone);
                }
            }
        }
        let zone_of = |host: &str| zones.get(host).copied();
        let crowded = |host: &&'a str| {
            let zone = zone_of(host).is_some_and(|zone| self.zones.is_crowded(zone));
            zone || self.hosts.is_crowded(host)
        };
        let now = (self.hosts.cost, self.zones.cost);
        let mut better = BTreeSet::new();
        for from in by_host.keys().copied().filter(crowded) {
            for (to, way) in ways(shards, &by_host, from) {
                let hosts = self.hosts.cost_after(Some(from), Some(to));
                let zones = self.zones.cost_after(zone_of(from), zone_of(to));
                if (hosts, zones) < now {
                    let rank = (hosts, zones, way.switchovers, self.hosts.load(to));
                    better.insert((rank, way.shard, way.to, from));
                }
            }
        }
        let ((hosts, ..), shard, to, from) = better.pop_first()?;
        let (place, primaries) = match zone_of(from) {
            Some(zone) if hosts == now.0 => {
                (SharedPlace::Zone(zone.to_owned()), self.zones.load(zone))
            }
            _ => (SharedPlace::Host(from.to_owned()), self.hosts.load(from)),
        };
        let because = PrimariesAt {
            place,
            primaries,
            of: self.voters,
        };
        Some(Turn { shard, to, because })
    }
}

/// A way for one primary less at one host and one more at another: the shortest, and its last switchover.
struct Way {
    switchovers: usize,
    shard: usize,
    to: usize,
}

/// To which hosts ways lead from this one. Each leaves and reaches a host but once, so that no shard changes twice.
fn ways<'a>(
    shards: &[Leads<'a>],
    by_host: &BTreeMap<&'a str, Vec<usize>>,
    from: &'a str,
) -> BTreeMap<&'a str, Way> {
    let mut found: BTreeMap<&'a str, Way> = BTreeMap::new();
    let mut reached = VecDeque::from([(from, 1)]);
    while let Some((host, switchovers)) = reached.pop_front() {
        for shard in by_host.get(host).into_iter().flatten().copied() {
            for (to, place) in shards[shard].or.iter().copied().enumerate() {
                let Some(next) = place.host.as_deref().filter(|next| *next != from) else {
                    continue;
                };
                if let Entry::Vacant(entry) = found.entry(next) {
                    entry.insert(Way {
                        switchovers,
                        shard,
                        to,
                    });
                    reached.push_back((next, switchovers + 1));
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{Leads, PrimariesAt, PrimarySpread, SharedPlace, Turn};
    use shardwright_topology::Place;

    fn at(host: &str, zone: Option<&str>) -> Place {
        Place {
            host: Some(host.to_owned()),
            zone: zone.map(str::to_owned),
            ..Place::default()
        }
    }

    /// What comes first of shards whose primaries are at the first of their places.
    fn first(shards: &[&[&Place]], hosts: usize, zones: usize) -> Option<Turn> {
        let leads: Vec<Leads<'_>> = shards
            .iter()
            .map(|copies| Leads {
                at: copies[0],
                or: copies[1..].to_vec(),
            })
            .collect();
        let places: Vec<&Place> = leads.iter().map(|l| l.at).collect();
        let spread = PrimarySpread::new(&places, places.len(), (hosts, zones));
        spread.first_switchover(&leads)
    }

    fn turn(shard: usize, to: usize, place: SharedPlace, primaries: usize, of: usize) -> Turn {
        let because = PrimariesAt {
            place,
            primaries,
            of,
        };
        Turn { shard, to, because }
    }

    #[test]
    fn whoever_makes_room_goes_first() {
        // What two primaries have on h1 has copies on h2 alone, where a third primary could go to h3.
        let [h1, h2, h3] = ["h1", "h2", "h3"].map(|host| at(host, None));
        let host = || SharedPlace::Host("h1".to_owned());
        let before: [&[&Place]; 3] = [&[&h1, &h2], &[&h1, &h2], &[&h2, &h3]];
        assert_eq!(first(&before, 3, 0), Some(turn(2, 0, host(), 2, 3)));
        let halfway: [&[&Place]; 3] = [&[&h1, &h2], &[&h1, &h2], &[&h3, &h2]];
        assert_eq!(first(&halfway, 3, 0), Some(turn(0, 0, host(), 2, 3)));
        let after: [&[&Place]; 3] = [&[&h2, &h1], &[&h1, &h2], &[&h3, &h2]];
        assert_eq!(first(&after, 3, 0), None);
    }

    #[test]
    fn a_share_is_enough_unless_it_is_half_of_all() {
        let [h1, h2, h3, h4] = ["h1", "h2", "h3", "h4"].map(|host| at(host, None));
        // Six on four hosts: two each are no more than a share.
        let six: [&[&Place]; 6] = [
            &[&h1, &h4],
            &[&h1, &h4],
            &[&h2, &h4],
            &[&h2, &h4],
            &[&h3, &h4],
            &[&h3, &h4],
        ];
        assert_eq!(first(&six, 4, 0), None);
        // Four on three: the loss of two would leave no majority, so only one host has two.
        let four: [&[&Place]; 4] = [&[&h1, &h3], &[&h1, &h2], &[&h2, &h1], &[&h2, &h1]];
        let host = SharedPlace::Host("h1".to_owned());
        assert_eq!(first(&four, 3, 0), Some(turn(0, 0, host, 2, 4)));
    }

    #[test]
    fn of_two_primaries_nothing_is_said() {
        let [h1, h2] = ["h1", "h2"].map(|host| at(host, None));
        assert_eq!(first(&[&[&h1, &h2], &[&h1, &h2]], 2, 0), None);
        let places = [&h1, &h1, &h1];
        let on_one = |voters, hosts| PrimarySpread::new(&places, voters, (hosts, 0)).majorities();
        assert_eq!(on_one(3, 1), [], "there is no other host");
        assert_eq!(on_one(7, 2), [], "the other four are a majority");
        assert_eq!(on_one(6, 2).len(), 1);
    }

    #[test]
    fn hosts_weigh_more_than_zones() {
        let [a1, b1, b2] = [("a1", "a"), ("b1", "b"), ("b2", "b")].map(|(h, z)| at(h, Some(z)));
        let shards: [&[&Place]; 3] = [&[&a1, &b2], &[&a1, &b2], &[&b1]];
        // Zone b then holds two of three, as zone a did.
        let host = SharedPlace::Host("a1".to_owned());
        assert_eq!(first(&shards, 3, 2), Some(turn(0, 0, host, 2, 3)));
        let after: [&[&Place]; 3] = [&[&b2, &a1], &[&a1, &b2], &[&b1]];
        assert_eq!(first(&after, 3, 2), None);
    }

    #[test]
    fn how_many_places_are_needed() {
        for (of, places) in [(3, 3), (4, 4), (5, 3), (6, 3), (100, 3)] {
            let place = SharedPlace::Host("h1".to_owned());
            let primaries = of;
            let at = PrimariesAt {
                place,
                primaries,
                of,
            };
            assert_eq!(at.places_min(), places, "{of}");
        }
    }
}
