//! Writes that wait in the sockets of a frozen process: it takes them when it goes on, and tells the clients so
//! (`fact_a_frozen_primary_takes_what_waits_and_shows_its_stream_until_it_has_copied`).

use shardwright_topology::Slot;

use crate::model::{Inbound, Model, Seat};

/// How many clients wait at one process, at most.
const WAITING_MAX: usize = 20;
/// How many of the clients that write have a connection to it, and wait for their answer, in percent.
const WAITS_PERCENT: u64 = 10;

impl Model {
    /// A client may write to this slot at a frozen process that owns it, by its own table.
    pub(crate) fn leave_write(&mut self, slot: Slot) {
        let owns = |s: &Seat| {
            let node = s.node.as_ref().filter(|_| s.frozen && !s.foreign);
            node.is_some_and(|n| n.takes_writes(slot))
        };
        let Some(at) = self.seats.iter().position(owns) else {
            return;
        };
        let inbox = self.seats[at].inbox.iter();
        let waiting = inbox.filter(|i| matches!(i, Inbound::Write(_))).count();
        if self.patient.chance(WAITS_PERCENT) && waiting < WAITING_MAX {
            self.seats[at].inbox.push(Inbound::Write(slot));
        }
    }

    /// The process goes on: what it still holds to be its own it takes.
    pub(crate) fn take_late_write(&mut self, seat: usize, slot: Slot) {
        let node = self.seats[seat].node.as_ref();
        let takes = node.is_some_and(|n| n.takes_writes(slot));
        if !takes || self.sent_on(seat, slot) != Some(seat) {
            return;
        }
        let key = self.new_key(slot);
        self.oracle_taken_late(seat, key);
        self.change(seat, key, true);
        let evicted = self.evict(seat);
        self.oracle.evicted.extend(evicted);
    }
}
