//! Whether a change of roles that is to keep primaries apart does: counted anew, from the observation alone.

use std::collections::{BTreeMap, BTreeSet};

use shardwright_topology::{NodeId, Place, Role, Seen, Server};

use super::{Lint, ViolationKind};
use crate::{Action, Crowded, Reason, Step};

/// How many primaries each place of one kind holds, by its name.
type Held<'a> = BTreeMap<&'a String, usize>;

impl Lint<'_> {
    /// Roles change for a better place only while everyone was heard and stays, by one step alone, where some place holds
    /// too many primaries; no host gets more than the fullest has, and no copy is placed worse.
    pub(super) fn keeps_apart(&mut self, i: usize, step: &Step) {
        let (Action::Switchover { replica, primary }, Reason::Crowded(Crowded::Primaries(_))) =
            (&step.action, &step.because)
        else {
            return;
        };
        let calm = |s: &Server| matches!(s.view, Seen::Known(_)) && !s.leaving;
        let all_calm = self.alone && self.o.servers().values().all(calm);
        if !all_calm || !self.takes_one_more(*replica) || self.places_worse(*replica, *primary) {
            let replica = *replica;
            self.fatal(i, ViolationKind::CrowdsPrimaries { replica });
        }
    }

    fn place_of(&self, node: NodeId) -> Option<&Place> {
        self.o.server_of(node).map(|s| &s.place)
    }

    /// Whether some place holds too many primaries, and with this one more its host has no more than the fullest.
    fn takes_one_more(&self, replica: NodeId) -> bool {
        let mut voters = 0;
        let (mut by_host, mut by_zone) = (Held::new(), Held::new());
        for (id, m) in self.o.members() {
            if m.role != Role::Primary || m.slots.is_empty() {
                continue;
            }
            voters += 1;
            let Some(place) = self.place_of(*id) else {
                return false;
            };
            if let Some(host) = &place.host {
                *by_host.entry(host).or_default() += 1;
            }
            if let Some(zone) = &place.zone {
                *by_zone.entry(zone).or_default() += 1;
            }
        }
        let places = || {
            let places = self.o.servers().values().map(|s| &s.place);
            places.filter(|place| !place.cordoned)
        };
        let hosts: BTreeSet<&String> = places().filter_map(|p| p.host.as_ref()).collect();
        let zones: BTreeSet<&String> = places().filter_map(|p| p.zone.as_ref()).collect();
        let too_many = |held: &Held<'_>, places: usize| {
            let mut loads = held.values();
            places > 1 && loads.any(|n| n * places >= voters + places || n * 2 >= voters)
        };
        let at = self.place_of(replica).filter(|place| !place.cordoned);
        let host = at.and_then(|p| p.host.as_ref());
        let fullest = by_host.values().max();
        let fits = host.is_some_and(|host| {
            let held = by_host.get(host).map_or(0, |n| *n);
            fullest.is_some_and(|most| held < *most)
        });
        fits && (too_many(&by_host, hosts.len()) || too_many(&by_zone, zones.len()))
    }

    /// Whether more of the shard's other replicas share a host with this replica than with the primary; or as many, and
    /// more of them a zone.
    fn places_worse(&self, replica: NodeId, primary: NodeId) -> bool {
        let beside = |node: NodeId| {
            let at = self.place_of(node)?;
            let (mut on_host, mut in_zone) = (0, 0);
            for (id, m) in self.o.members() {
                if m.primary == Some(primary) && *id != replica {
                    let other = self.place_of(*id)?;
                    on_host += usize::from(at.same_host(other));
                    in_zone += usize::from(at.same_zone(other));
                }
            }
            Some((on_host, in_zone))
        };
        match (beside(replica), beside(primary)) {
            (Some(after), Some(before)) => after > before,
            _ => true,
        }
    }
}
