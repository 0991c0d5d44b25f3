//! How well the copies of a shard are spread over hosts and zones, and the primaries of all shards.

use std::fmt;
use std::ops::{Add, Sub};

use shardwright_topology::{NodeId, Place};

mod primaries;

pub use primaries::PrimariesAt;
pub(crate) use primaries::{Leads, PrimarySpread};

/// How badly shards are placed: less is better, and what stands first weighs more than all that follows. The
/// difference of two costs is one too, so that a change is for the better when it is below zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Cost {
    /// Replicas on their primary's host.
    pub(crate) host_of_primary: i64,
    /// Pairs of replicas of one shard on one host.
    pub(crate) host_of_sibling: i64,
    /// Replicas in their primary's zone.
    pub(crate) zone_of_primary: i64,
    /// Pairs of replicas of one shard in one zone.
    pub(crate) zone_of_sibling: i64,
}

impl Cost {
    /// Of copies that share nothing.
    pub(crate) const NOTHING: Self = Self {
        host_of_primary: 0,
        host_of_sibling: 0,
        zone_of_primary: 0,
        zone_of_sibling: 0,
    };

    /// What a shard costs with its primary and its replicas at these places.
    pub(crate) fn of(primary: &Place, replicas: &[&Place]) -> Self {
        let each = replicas.iter().enumerate();
        each.fold(Self::NOTHING, |sum, (i, at)| {
            sum + Self::of_one(at, primary, replicas[i + 1..].iter().copied())
        })
    }

    /// What one replica adds to that, beside these others.
    pub(crate) fn of_one<'a>(
        at: &Place,
        primary: &Place,
        siblings: impl IntoIterator<Item = &'a Place>,
    ) -> Self {
        let mut sum = Self {
            host_of_primary: i64::from(at.same_host(primary)),
            zone_of_primary: i64::from(at.same_zone(primary)),
            ..Self::NOTHING
        };
        for sibling in siblings {
            sum.host_of_sibling += i64::from(at.same_host(sibling));
            sum.zone_of_sibling += i64::from(at.same_zone(sibling));
        }
        sum
    }
}

impl Add for Cost {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            host_of_primary: self.host_of_primary + other.host_of_primary,
            host_of_sibling: self.host_of_sibling + other.host_of_sibling,
            zone_of_primary: self.zone_of_primary + other.zone_of_primary,
            zone_of_sibling: self.zone_of_sibling + other.zone_of_sibling,
        }
    }
}

impl Sub for Cost {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self {
            host_of_primary: self.host_of_primary - other.host_of_primary,
            host_of_sibling: self.host_of_sibling - other.host_of_sibling,
            zone_of_primary: self.zone_of_primary - other.zone_of_primary,
            zone_of_sibling: self.zone_of_sibling - other.zone_of_sibling,
        }
    }
}

/// What a replica shares with another copy of its shard, so that one loss would take both.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Shared {
    /// The replica.
    pub replica: NodeId,
    /// What it shares.
    pub what: SharedPlace,
    /// With whom.
    pub with: SharedWith,
}

/// What is wrong with a placement, where another is better.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Crowded {
    /// A replica shares a place with another copy of its shard.
    Copies(Shared),
    /// A place holds more than its share of the primaries, or so many that the others are no majority.
    Primaries(PrimariesAt),
}

impl fmt::Display for Crowded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Copies(shared) => write!(f, "{shared}"),
            Self::Primaries(at) => write!(f, "{at}"),
        }
    }
}

/// A host or a zone, by its name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum SharedPlace {
    /// A host.
    Host(String),
    /// A zone.
    Zone(String),
}

/// With whom a replica shares its place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum SharedWith {
    /// With its primary.
    Primary,
    /// With another replica of its shard.
    Replica,
}

impl Shared {
    /// The worst that a replica shares with its primary and its siblings, if it shares anything.
    pub(crate) fn worst(
        replica: NodeId,
        at: &Place,
        primary: &Place,
        siblings: &[&Place],
    ) -> Option<Self> {
        let sibling = |same: fn(&Place, &Place) -> bool| siblings.iter().any(|s| same(at, s));
        let (host, zone) = (&at.host, &at.zone);
        let on_host = |name: String| SharedPlace::Host(name);
        let in_zone = |name: String| SharedPlace::Zone(name);
        let (what, with) = if at.same_host(primary) {
            (host.clone().map(on_host), SharedWith::Primary)
        } else if sibling(Place::same_host) {
            (host.clone().map(on_host), SharedWith::Replica)
        } else if at.same_zone(primary) {
            (zone.clone().map(in_zone), SharedWith::Primary)
        } else if sibling(Place::same_zone) {
            (zone.clone().map(in_zone), SharedWith::Replica)
        } else {
            return None;
        };
        what.map(|what| Self {
            replica,
            what,
            with,
        })
    }
}

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with = match self.with {
            SharedWith::Primary => "its primary",
            SharedWith::Replica => "another replica of its shard",
        };
        match &self.what {
            SharedPlace::Host(host) => {
                write!(f, "{:?} shares host {host} with {with}", self.replica)
            }
            SharedPlace::Zone(zone) => {
                write!(f, "{:?} shares zone {zone} with {with}", self.replica)
            }
        }
    }
}
