//! What the linter asks of a death that a refused connection is to prove, and of a start without data.

use shardwright_topology::{
    Claim, ConfigEpoch, Death, DeathProof, Disk, Health, NodeId, Process, Replication, Role, Row,
    Seen, Server, ServerName, SlotSet,
};

use super::{Lint, ViolationKind};
use crate::Authority;
use crate::evidence::Dead;

impl Lint<'_> {
    /// Whether what is known of a node on the bus speaks against its death: a link to it, or, where all that is known
    /// of its process is a refused connection and it is not ours, no majority that holds it to have failed.
    pub(super) fn lives_on_the_bus(&self, at: Option<&Server>, node: NodeId) -> bool {
        let proof = match at.map(|s| &s.process) {
            Some(Process::Dead(Death { proof, .. })) => Some(proof),
            Some(Process::Running | Process::Unknown) | None => None,
        };
        let rows = || {
            let views = self.o.views().filter(move |(_, v)| v.id != node);
            views.filter_map(move |(_, v)| Some((v, v.rows.get(node)?)))
        };
        match proof {
            Some(
                DeathProof::NotStarted
                | DeathProof::ChildReaped
                | DeathProof::TerminatedByKubelet { .. },
            ) => false,
            None => rows().any(|(_, row)| row.link_up && row.health == Health::Fine),
            Some(DeathProof::Refused) => {
                let linked = rows().any(|(_, row)| row.link_up);
                let agreed = || {
                    let (mut voters, mut fail) = (0, 0);
                    for (id, m) in self.o.members() {
                        if m.role == Role::Primary && !m.slots.is_empty() {
                            let row = self.o.view_of(*id).and_then(|v| v.rows.get(node));
                            voters += 1;
                            fail += usize::from(row.is_some_and(|r| r.health == Health::Failed));
                        }
                    }
                    fail * 2 > voters
                };
                let given_up = || {
                    self.d.consent.lose_data && rows().all(|(_, row)| row.health != Health::Fine)
                };
                let ours = self.d.authority == Authority::Managed;
                linked || !(ours || agreed() || given_up())
            }
        }
    }

    /// Nothing without data starts where a replica may copy it: one that was heard and has keys, or one that was not
    /// heard, unless it is known to follow another or to have nothing.
    pub(super) fn takes_place(&mut self, i: usize, name: &ServerName) {
        let followed = self.o.servers().get(name).is_some_and(|place| {
            let mut others = self.o.servers().values().filter(|s| s.name != *name);
            // A person gives up who is silent, and nobody who has keys.
            let counts = |other: &Server| !self.d.consent.lose_data || self.has_keys(other);
            let homeless = !self.d.consent.lose_data && self.homeless_may_copy(place);
            others.any(|other| counts(other) && self.may_copy(other, place)) || homeless
        });
        if followed {
            let server = name.clone();
            self.fatal(i, ViolationKind::TakesPlace { server });
        }
    }

    /// Whether a server that speaks has keys, or one that is down would come back with its file: nobody tried that yet.
    fn has_keys(&self, s: &Server) -> bool {
        match &s.view {
            Seen::Known(view) => view.server.keys > 0,
            Seen::Unknown(_) => {
                let whole = [Disk::Log, Disk::CleanSnapshot, Disk::Tableless].map(Seen::Known);
                let down = matches!(s.process, Process::Dead(_)) && whole.contains(&s.disk);
                down && !self.o.starts.contains_key(&s.name)
            }
        }
    }

    /// Whether keys that are served, or were copied, would be lost to a node that comes back with what it had once: one
    /// that copies it has keys, or one serves slots that it claims, by no greater an epoch.
    pub(super) fn empties_others(&self, s: &Server, claim: &Claim) -> bool {
        let (epoch, claimed) = match claim {
            Claim::Slots { epoch, slots } => (*epoch, slots.clone()),
            Claim::Nothing => return false,
            Claim::Unreadable => (ConfigEpoch(0), SlotSet::empty()),
        };
        let mut views = self.o.views().map(|(_, v)| v);
        views.any(|v| {
            let own = v.own().filter(|_| Some(v.id) != s.recorded_id);
            let loses = own.is_some_and(|own| {
                let follows = own.primary.is_some() && own.primary == s.recorded_id;
                let serves = own.role == Role::Primary && own.epoch <= epoch;
                follows || serves && !own.slots.intersection(&claimed).is_empty()
            });
            loses && v.server.keys > 0
        })
    }

    /// Whether the primary of the node that was recorded at a server has keys; where nobody tells of one, all who own slots.
    pub(super) fn is_copied_elsewhere(&self, s: &Server) -> bool {
        let row = s.recorded_id.and_then(|id| self.o.member(id));
        let has = |id| self.o.view_of(id).map_or(0, |v| v.server.keys) > 0;
        let mut owners = self.o.members().values().filter(|m| !m.slots.is_empty());
        match row.and_then(|m| m.primary) {
            Some(primary) => has(primary),
            None => owners.all(|m| has(m.id)),
        }
    }

    /// Nobody who copies from there, and follows a node of which no file is left, holds keys.
    pub(super) fn leaves_copies(&mut self, i: usize, name: &ServerName) {
        let Some(place) = self.o.servers().get(name) else {
            return;
        };
        let Seen::Known(at) = &place.address else {
            return;
        };
        let has_file = |id: NodeId| {
            let servers = || self.o.servers().values();
            let spoke = |s: &&Server| s.last_heard.as_ref().is_some_and(|v| v.id == id);
            let lives = servers().any(|s| matches!(&s.view, Seen::Known(v) if v.id == id));
            let file = |s: &Server| {
                let dead = matches!(s.process, Process::Dead(_));
                let whole = [Disk::Log, Disk::CleanSnapshot, Disk::Tableless].map(Seen::Known);
                !dead
                    || whole.contains(&s.disk)
                        && s.disk_row.as_ref().is_none_or(|own| {
                            own.id == id || s.recorded_id == Some(id) && !self.is_anothers(s)
                        })
            };
            lives
                || servers()
                    .filter(|s| s.recorded_id == Some(id) || spoke(s))
                    .any(file)
        };
        let drops = self.o.views().any(|(_, view)| {
            let from = match &view.server.replication {
                Replication::Replica { primary, .. } => primary.same_socket(at),
                Replication::Primary { .. } => false,
            };
            let of = view.own().and_then(|own| own.primary);
            from && view.server.keys > 0
                && of.is_some_and(|of| place.recorded_id != Some(of) && !has_file(of))
        });
        if drops && !self.d.consent.lose_data {
            let server = name.clone();
            self.fatal(i, ViolationKind::TakesPlace { server });
        }
    }

    /// Whether a replica of the node that is recorded there lives nobody knows where.
    fn homeless_may_copy(&self, place: &Server) -> bool {
        let mut members = self.o.members().values().filter(|m| m.server.is_none());
        members.any(|m| {
            let follows = m.role == Role::Replica && m.primary.is_some();
            follows && m.primary == place.recorded_id && Dead::prove(self.o, m.id).is_none()
        })
    }

    /// Whether a primary claims slots that are listed as those of the node that was recorded there: it will follow that.
    fn loses_its_slots_to(&self, own: &Row, place: &Server) -> bool {
        let Some(there) = place.recorded_id.filter(|id| *id != own.id) else {
            return false;
        };
        own.role == Role::Primary
            && own
                .slots
                .slots()
                .any(|slot| self.o.owner(slot) == Some(there))
    }

    fn may_copy(&self, other: &Server, place: &Server) -> bool {
        let heard = match &other.view {
            Seen::Known(view) => Some(view),
            Seen::Unknown(_) => None,
        };
        let gone = matches!(other.process, Process::Dead(_));
        if heard.is_none() && gone && has_no_data(other) {
            return false;
        }
        if heard.is_some_and(|v| v.server.keys == 0) {
            return false;
        }
        // As its own table says it will start.
        if let Some(own) = other.disk_row.as_ref().filter(|_| heard.is_none() && gone) {
            let turns = self.loses_its_slots_to(own, place);
            return turns || own.role == Role::Replica && own.primary == place.recorded_id;
        }
        let mut words = Vec::new();
        for view in heard.into_iter().chain(other.last_heard.as_deref()) {
            if heard.is_some() || other.recorded_id.is_none_or(|id| id == view.id) {
                let row = view.own().and_then(|own| own.primary);
                let copies = match (&view.server.replication, &place.address) {
                    (Replication::Replica { primary, .. }, Seen::Known(at)) => {
                        primary.same_socket(at)
                    }
                    _ => false,
                };
                let turns = view
                    .own()
                    .is_some_and(|own| self.loses_its_slots_to(own, place));
                words.push(turns || copies || (row.is_some() && row == place.recorded_id));
            }
        }
        if heard.is_none() {
            let told = other.recorded_id.and_then(|id| self.o.member(id));
            words.extend(told.map(|m| m.primary.is_some() && m.primary == place.recorded_id));
        }
        words.is_empty() || words.contains(&true)
    }

    /// Whether a directory has the table of another node than the recorded one, and that claims no slot that is listed as
    /// the recorded one's: whoever loads keys without a table claims the slots that they are of.
    pub(super) fn is_anothers(&self, s: &Server) -> bool {
        let (Some(there), Some(recorded)) = (&s.disk_row, s.recorded_id) else {
            return false;
        };
        let its = |slot| self.o.owner(slot) == Some(recorded);
        let loaded = there.role == Role::Primary;
        there.id != recorded && !(loaded && there.slots.slots().any(its))
    }
}

/// Whether a directory is empty, or has the table of another node than the recorded one, which had no key when it was
/// last heard.
pub(super) fn has_no_data(s: &Server) -> bool {
    let another = match (&s.last_heard, s.recorded_id) {
        (Some(last), Some(recorded)) => last.id != recorded && last.server.keys == 0,
        _ => false,
    };
    let another = another && s.disk_row.as_ref().map(|there| there.id) != s.recorded_id;
    another || s.disk == Seen::Known(Disk::Blank)
}
