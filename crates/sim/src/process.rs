//! Processes: started, killed, frozen, and what each leaves on its disk.

use shardwright_topology::{OpenSlot, Place, Slot, SlotSet};

use crate::facts;
use crate::model::{Event, Inbound, Model, Persistence};
use crate::node::Node;

impl Model {
    pub(crate) fn next_run(&mut self) -> u64 {
        self.runs += 1;
        self.runs
    }

    /// Starts a process. Does nothing when it runs.
    pub(crate) fn start(&mut self, seat: usize, by_us: bool) {
        if self.seats[seat].running {
            return;
        }
        if self.seats[seat].node.as_ref().is_some_and(|n| n.torn) {
            let (now, name) = (self.now, self.seats[seat].name.clone());
            self.trace
                .note(now, format_args!("{name} refuses its table and ends"));
            return;
        }
        let run = self.next_run();
        let (now, at, profile) = (self.now, self.seats[seat].at, self.profile);
        let load = self.disk.within(facts::LOAD_MS);
        if self.seats[seat].node.is_none() {
            let id = self.born(seat);
            self.seats[seat].node = Some(Node::blank(id, at, profile, run, now));
        } else if let Some(node) = self.seats[seat].node.as_mut() {
            node.start(at, run, now + load);
            self.verify_table_with_data(seat);
        }
        let s = &mut self.seats[seat];
        s.running = true;
        s.frozen = false;
        s.started_ever = true;
        s.died_before = s.died.take();
        s.started_by_us = by_us;
        s.loads_until = now + load;
        let name = s.name.clone();
        self.trace.note(now, format_args!("{name} starts"));
        let phase = load + self.engine.below(facts::TICK_MS);
        self.after(phase, Event::Tick { seat, run });
    }

    /// What a primary does with keys of slots that its table gives to others, once it has loaded them
    /// (`verifyClusterConfigWithData`). What it takes in stays.
    fn verify_table_with_data(&mut self, seat: usize) {
        let Some(node) = self.seats[seat].node.as_mut().filter(|n| n.is_primary()) else {
            return;
        };
        let slots: SlotSet = node
            .data
            .iter()
            .filter_map(|key| Slot::new(u64::from(key.0)).ok())
            .collect();
        let mut deleted = Vec::new();
        for slot in slots.slots() {
            let id = node.id;
            let open = node.open.iter().any(|o| o.slot() == slot);
            let Some(from) = node.owner(slot).filter(|owner| *owner != id && !open) else {
                continue;
            };
            if node.profile.deletes_stray_keys() {
                let gone: Vec<_> = node.keys_in(slot).collect();
                node.data.retain(|key| key.0 != slot.number());
                deleted.extend(gone);
            } else {
                node.open.push(OpenSlot::Importing { slot, from });
            }
        }
        if !deleted.is_empty() {
            let (now, name, many) = (self.now, self.seats[seat].name.clone(), deleted.len());
            self.trace.note(
                now,
                format_args!("{name} deletes {many} keys of slots that are not its own"),
            );
            self.oracle.evicted.extend(deleted);
        }
    }

    /// kill -9.
    pub(crate) fn kill(&mut self, seat: usize) {
        if !self.seats[seat].running {
            return;
        }
        let now = self.now;
        let window = match self.seats[seat].persistence {
            Persistence::Always => Some(0),
            // A process's death leaves what it has written to the kernel; only a write that was held back is lost.
            Persistence::EverySecond => Some(if self.disk.chance(20) {
                self.disk.below(facts::EVERYSEC_WINDOW_MS)
            } else {
                0
            }),
            Persistence::Off => None,
        };
        let s = &mut self.seats[seat];
        s.running = false;
        s.frozen = false;
        s.died = Some(now);
        s.inbox.clear();
        if let Some(node) = s.node.as_mut() {
            node.stop();
            match window {
                Some(0) => {}
                // What a stranger holds nobody wrote.
                Some(ms) => node.data.retain(|key| {
                    let write = self.writes.get(key.1 as usize);
                    write.is_none_or(|write| write.at + ms <= now)
                }),
                None => {
                    s.lost = std::mem::take(&mut node.data);
                    node.libraries.clear();
                    node.offset = 0;
                }
            }
        }
        let name = s.name.clone();
        self.trace.note(now, format_args!("{name} is killed"));
    }

    /// Removes a dead server's directory.
    pub(crate) fn wipe(&mut self, seat: usize) {
        self.kill(seat);
        let node = self.seats[seat].node.take();
        let seat = &mut self.seats[seat];
        seat.lost
            .extend(node.into_iter().flat_map(|node| node.data));
        let name = seat.name.clone();
        self.trace
            .note(self.now, format_args!("{name} loses its directory"));
    }

    /// A server loses its table of nodes, and keeps its data: it will start under another id, and claim, as the engines
    /// do (`verifyClusterConfigWithData`), the slots that it has keys of. Without a file it loses all.
    pub(crate) fn lose_table(&mut self, seat: usize) {
        self.kill(seat);
        let (now, at, profile) = (self.now, self.seats[seat].at, self.profile);
        let Some(old) = self.seats[seat].node.take() else {
            return;
        };
        if !old.data.is_empty() {
            let id = self.born(seat);
            let mut node = Node::blank(id, at, profile, old.run, now);
            let slots = old.data.iter().map(|key| key.0);
            let slots: SlotSet = slots
                .filter_map(|slot| Slot::new(u64::from(slot)).ok())
                .collect();
            node.own(id, &slots);
            node.data = old.data;
            node.libraries = old.libraries;
            node.table_lost = true;
            self.seats[seat].node = Some(node);
        }
        let name = self.seats[seat].name.clone();
        self.trace
            .note(now, format_args!("{name} loses its table of nodes"));
    }

    /// A server is made anew, with nothing, on a host that is not away. Whoever deletes its pod has it ended wherever it
    /// may still run: here at once.
    pub(crate) fn recreate(&mut self, seat: usize, host: &str) -> Result<(), &'static str> {
        let tied = self.seats[seat].place.tied.as_ref();
        if tied.is_none_or(|tied| tied.host != host) {
            return Err("it is tied to no such host");
        }
        self.wipe(seat);
        // A stranger who listened at the old address has nothing to do with the new pod.
        self.seats[seat].stash = None;
        self.seats[seat].foreign = false;
        let leave_rank = self.seats[seat].place.leave_rank;
        let well = self.seats.iter().map(|s| &s.place);
        let place = well.filter(|place| place.away_since.is_none()).min();
        self.seats[seat].place = Place {
            leave_rank,
            ..place.cloned().unwrap_or_default()
        };
        self.seats[seat].at = self.fresh_address();
        self.seats[seat].died = Some(self.now);
        self.operator_cut.remove(&seat);
        self.cut.retain(|(from, to)| *from != seat && *to != seat);
        self.disturb(seat);
        Ok(())
    }

    /// A server is taken away for good, with its directory.
    pub(crate) fn remove(&mut self, seat: usize) {
        self.wipe(seat);
        self.seats[seat].listed = false;
        self.seats[seat].recorded = None;
        self.disturb(seat);
    }

    /// A server that was taken away is wanted again: it comes with nothing.
    pub(crate) fn relist(&mut self, seat: usize) {
        self.seats[seat].listed = true;
        self.disturb(seat);
    }

    pub(crate) fn freeze(&mut self, seat: usize) {
        if self.seats[seat].running {
            self.seats[seat].frozen = true;
            let name = self.seats[seat].name.clone();
            self.trace.note(self.now, format_args!("{name} is frozen"));
        }
    }

    /// A frozen process goes on, and takes all that waited for it.
    pub(crate) fn thaw(&mut self, seat: usize) {
        if !self.seats[seat].frozen {
            return;
        }
        self.seats[seat].frozen = false;
        let name = self.seats[seat].name.clone();
        self.trace.note(self.now, format_args!("{name} goes on"));
        for inbound in std::mem::take(&mut self.seats[seat].inbox) {
            match inbound {
                Inbound::Bus(message) => self.receive(seat, &message),
                Inbound::Stream(stream) => self.deliver_stream(seat, stream),
                Inbound::Write(slot) => self.take_late_write(seat, slot),
                Inbound::Command(command) => {
                    // Nobody waits for this answer any more; the oracle still judges the effect.
                    if let Err(refusal) = self.command(seat, &command) {
                        self.trace
                            .note(self.now, format_args!("{name} refuses late: {refusal}"));
                    }
                }
            }
        }
    }

    /// Leaves a command in the socket of a frozen process.
    pub(crate) fn leave_command(&mut self, seat: usize, command: crate::commands::Command) {
        self.seats[seat].inbox.push(Inbound::Command(command));
    }
}
