//! The model as a world for scripts: the same planner, the same judge, no chance but a fixed seed's.

use shardwright_planner::{Consent, Desired, FailoverPolicy, Manner, Request, Waiting, layout};
use shardwright_topology::{NodeId, Observed, Place, Role, Slot, SlotSet};

use crate::commands::Command;
use crate::facts::{self, Profile};
use crate::faults::Fault;
use crate::history::REST_MAX_MS;
use crate::model::{Event, Model, Persistence};
use crate::node::{Node, Peer};
use crate::operator::Operator;
use crate::script::{Form, Moved, World};
use crate::trace::Trace;

/// A plan must stay stuck for so long before it is called so: slower news may yet unlock it.
const STUCK_AFTER_MS: u64 = 2_000;
/// The config epochs of a cluster that is none of ours begin here: above all that ours comes to.
const FOREIGN_EPOCH: u64 = 1_000;
/// The seed of every script: what differs between scripts is what they say.
const SEED: u64 = 0;

/// The model, for scripts.
pub struct ModelWorld {
    model: Model,
    operator: Operator,
    /// How many steps the forming took.
    formed: usize,
}

impl ModelWorld {
    /// A world without servers, in which engines behave like this.
    pub fn new(profile: Profile) -> Self {
        let mut operator = Operator::new(SEED, Desired::managed(3, 0));
        operator.transcript = Some(Vec::new());
        Self {
            model: Model::new(SEED, profile, Trace::new(true)),
            operator,
            formed: 0,
        }
    }

    /// The steps that formed the cluster, with names instead of ids; greetings only counted.
    pub fn forming_steps(&self) -> Vec<String> {
        told(&self.transcript()[..self.formed])
    }

    /// The steps taken since.
    pub fn steps(&self) -> Vec<String> {
        told(&self.transcript()[self.formed..])
    }

    fn transcript(&self) -> &[String] {
        self.operator.transcript.as_deref().unwrap_or(&[])
    }

    /// All that happened, for whoever looks for a fault.
    pub fn lines(self) -> Vec<String> {
        self.model.trace.into_lines()
    }

    fn seat(&self, name: &str) -> Result<usize, String> {
        let found = self.model.seats.iter().position(|s| s.name.0 == name);
        found.ok_or_else(|| format!("there is no server {name}"))
    }

    /// Somebody lets a server meet a cluster of three primaries that is none of ours, while nobody looks for so long: it has
    /// the ranges of three shards, greater epochs and no key. Full copies take so much longer from then on.
    ///
    /// # Errors
    /// Where there is no such server, or it does not answer.
    pub fn meet_another(&mut self, name: &str, ms: u64, slow_copy_ms: u64) -> Result<(), String> {
        let ours = self.seat(name)?;
        self.model.slow_copy_ms = slow_copy_ms;
        let all: Vec<(usize, NodeId, SlotSet)> = layout(3)
            .into_iter()
            .enumerate()
            .map(|(i, range)| {
                let name = format!("x{i}");
                let seat = self
                    .model
                    .add_seat(&name, Place::default(), Persistence::Always);
                (seat, self.model.fresh_id(), range.into())
            })
            .collect();
        for (seat, id, _) in &all {
            self.run_foreign(*seat, *id, &all);
        }
        let first = self.model.seats[ours + 1..].iter().find(|s| s.foreign);
        let at = first.map(|s| s.at).ok_or("no foreign server runs")?;
        self.model.command(ours, &Command::Meet(at))?;
        self.pass_time(ms);
        Ok(())
    }

    /// Starts a primary of the other cluster, which knows the others of it.
    fn run_foreign(&mut self, seat: usize, id: NodeId, all: &[(usize, NodeId, SlotSet)]) {
        let (now, at) = (self.model.now, self.model.seats[seat].at);
        let run = self.model.next_run();
        let mut node = Node::blank(id, at, self.model.profile, run, now);
        for (epoch, (other, peer, slots)) in (FOREIGN_EPOCH..).zip(all) {
            let row = Peer {
                epoch,
                slots: slots.clone(),
                link_up: *peer != id,
                ..Peer::new(self.model.seats[*other].at, Role::Primary, now)
            };
            node.peers.insert(*peer, row);
            node.current_epoch = epoch;
        }
        node.state_ok = true;
        let s = &mut self.model.seats[seat];
        (s.node, s.foreign, s.listed, s.running) = (Some(node), true, false, true);
        s.loads_until = now;
        self.model.after(facts::TICK_MS, Event::Tick { seat, run });
    }

    fn node(&self, name: &str) -> Result<shardwright_topology::NodeId, String> {
        let node = self.model.seats[self.seat(name)?].node.as_ref();
        node.map(|n| n.id)
            .ok_or_else(|| format!("{name} has no node"))
    }

    fn strike(&mut self, fault: &Fault) {
        fault.strike(&mut self.model, &mut self.operator);
        self.operator.rest();
    }

    /// Lets time pass, with or without the operator's turns.
    fn pass_time(&mut self, ms: u64) {
        let end = self.model.now + ms;
        while self.model.next_at().is_some_and(|at| at <= end) {
            self.step();
        }
    }

    fn step(&mut self) {
        let event = self.model.next().and_then(|e| self.model.handle(e));
        if let Some(Event::Operator(turn)) = event {
            self.operator.turn(turn, &mut self.model);
        }
    }

    /// Who takes writes for a slot.
    fn taker(&self, slot: Slot) -> Option<usize> {
        (0..self.model.seats.len()).find(|i| {
            let node = self.model.seats[*i].node.as_ref();
            self.model.answers(*i) && node.is_some_and(|n| n.takes_writes(slot))
        })
    }

    /// Waits until every connected replica has what its primary has.
    fn replicas_catch_up(&mut self) {
        for _ in 0..100 {
            let behind = self.model.seats.iter().any(|s| {
                let replica = s.node.as_ref().filter(|n| n.copying.up && s.running);
                let primary = replica.and_then(|n| n.me().primary);
                let home = primary.and_then(|id| self.model.home(id));
                let end = home.and_then(|i| self.model.seats[i].node.as_ref());
                replica.zip(end).is_some_and(|(r, p)| r.offset < p.offset)
            });
            if !behind {
                return;
            }
            self.pass_time(10);
        }
    }

    fn judged(&self) -> Result<(), String> {
        match self.model.oracle.violations.first() {
            None => Ok(()),
            Some(violation) => Err(format!("the judge: {violation}")),
        }
    }
}

fn told(steps: &[String]) -> Vec<String> {
    let is_greeting = |s: &&String| s.starts_with("tell ") && s.contains(" is at ");
    let greetings = steps.iter().filter(is_greeting).count();
    let mut told: Vec<String> = steps.iter().filter(|s| !is_greeting(s)).cloned().collect();
    if greetings > 0 {
        told.push(format!("({greetings} greetings)"));
    }
    told
}

impl World for ModelWorld {
    fn form(&mut self, form: &Form) -> Result<(), String> {
        let persistence = if form.aof {
            Persistence::Always
        } else {
            Persistence::Off
        };
        for i in 0..u32::from(form.shards * (1 + form.replicas)) {
            let hosts = form.hosts.len();
            let host = usize::try_from(i)
                .ok()
                .and_then(|i| i.checked_rem(hosts))
                .map(|i| form.hosts[i].clone());
            let place = Place {
                host,
                leave_rank: i,
                ..Place::default()
            };
            self.model.add_seat(&format!("n{i}"), place, persistence);
        }
        self.operator.desired = Desired {
            failover: if form.keep_every_write {
                FailoverPolicy::KeepEveryWrite
            } else {
                FailoverPolicy::Availability
            },
            ..Desired::managed(form.shards, form.replicas)
        };
        let waits = self.settle()?;
        self.formed = self.transcript().len();
        if waits.is_empty() {
            Ok(())
        } else {
            Err(format!("it is not formed: {waits:?}"))
        }
    }

    fn write(&mut self, keys: u32) -> Result<(), String> {
        for i in 0..keys {
            let slot =
                Slot::new(u64::from(i) * 16_384 / u64::from(keys)).map_err(|e| e.to_string())?;
            let at = self
                .taker(slot)
                .ok_or_else(|| format!("nobody takes writes for slot {slot}"))?;
            let key = self.model.new_key(slot);
            self.model.change(at, key, true);
        }
        self.replicas_catch_up();
        Ok(())
    }

    fn kill(&mut self, name: &str) -> Result<(), String> {
        let seat = self.seat(name)?;
        self.strike(&Fault::Kill(vec![seat]));
        Ok(())
    }

    fn freeze(&mut self, name: &str) -> Result<(), String> {
        let seat = self.seat(name)?;
        self.strike(&Fault::Freeze(seat));
        Ok(())
    }

    fn thaw(&mut self, name: &str) -> Result<(), String> {
        let seat = self.seat(name)?;
        self.strike(&Fault::Thaw(seat));
        Ok(())
    }

    fn lose_table(&mut self, name: &str) -> Result<(), String> {
        let seat = self.seat(name)?;
        self.strike(&Fault::LoseTable(seat));
        Ok(())
    }

    fn wipe(&mut self, name: &str) -> Result<(), String> {
        let seat = self.seat(name)?;
        self.strike(&Fault::Wipe(vec![seat]));
        Ok(())
    }

    fn move_all(&mut self) -> Result<(), String> {
        let all = (0..self.model.seats.len()).collect();
        self.strike(&Fault::Move(all));
        Ok(())
    }

    fn accept_data_loss(&mut self) -> Result<(), String> {
        self.operator.desired.consent = Consent {
            lose_data: true,
            ..Consent::default()
        };
        self.model.oracle.consent = true;
        Ok(())
    }

    fn failover(&mut self, name: &str) -> Result<(), String> {
        let node = self.node(name)?;
        let manner = Manner::Switchover;
        self.operator.desired.request = Some(Request::Promote { node, manner });
        Ok(())
    }

    fn open_slot(&mut self, slot: Slot, from: &str, to: &str, moved: Moved) -> Result<(), String> {
        let (source, target) = (self.seat(from)?, self.seat(to)?);
        let (giver, receiver) = (self.node(from)?, self.node(to)?);
        let keys = |m: &Model| {
            let node = m.seats[source].node.as_ref();
            node.map_or(0, |n| n.keys_in(slot).count())
        };
        for _ in 0..2 {
            let key = self.model.new_key(slot);
            self.model.change(source, key, true);
        }
        let most = match moved {
            Moved::None => 0,
            Moved::Half => keys(&self.model) / 2,
            Moved::All => keys(&self.model),
        };
        let most = u32::try_from(most).map_err(|e| e.to_string())?;
        let import = Command::Importing(slot, giver);
        let migrate = Command::Migrating(slot, receiver);
        self.model.command(target, &import)?;
        self.model.command(source, &migrate)?;
        self.model.move_keys(source, target, slot, most)?;
        self.replicas_catch_up();
        Ok(())
    }

    fn forget(&mut self, name: &str) -> Result<(), String> {
        let (seat, id) = (self.seat(name)?, self.node(name)?);
        for other in (0..self.model.seats.len()).filter(|i| *i != seat) {
            self.model.command(other, &Command::Forget(id))?;
        }
        let now = self.model.now;
        if let Some(node) = self.model.seats[seat].node.as_mut() {
            // A replica may not forget its primary; a soft reset forgets everyone and keeps the id.
            node.reset(id, now);
        }
        Ok(())
    }

    fn follow(&mut self, name: &str, other: &str) -> Result<(), String> {
        let (seat, primary) = (self.seat(name)?, self.node(other)?);
        self.model.command(seat, &Command::Replicate(primary))?;
        self.pass_time(3_000);
        Ok(())
    }

    fn drop_slot(&mut self, slot: Slot) -> Result<(), String> {
        let one = shardwright_topology::SlotSet::from(shardwright_topology::SlotRange::from(slot));
        let at = self
            .taker(slot)
            .ok_or_else(|| format!("nobody owns slot {slot}"))?;
        if let Some(node) = self.model.seats[at].node.as_mut() {
            node.disown(&one);
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<Vec<Waiting>, String> {
        let from = self.model.now;
        let mut stuck_since = None;
        self.operator.last = None;
        self.operator.wake(&mut self.model);
        let waits = loop {
            self.step();
            self.judged()?;
            let now = self.model.now;
            if let Some((_, plan)) = &self.operator.last {
                if plan.is_settled() {
                    break Vec::new();
                }
                stuck_since = plan.is_stuck().then(|| stuck_since.unwrap_or(now));
                if stuck_since.is_some_and(|since| now - since >= STUCK_AFTER_MS) {
                    let waits = plan.waiting.iter().filter(|w| w.needs_a_person());
                    break waits.cloned().collect();
                }
            }
            if now > from + REST_MAX_MS {
                let last = self.operator.last.as_ref().map(|(_, plan)| plan);
                return Err(format!("no rest within {REST_MAX_MS} ms: {last:?}"));
            }
        };
        self.operator.rest();
        self.operator.desired.request = None;
        Ok(waits)
    }

    fn observe(&mut self) -> Result<Observed, String> {
        Ok(self.operator.look(&mut self.model))
    }

    fn keys(&mut self) -> Result<(u64, u64), String> {
        let held: std::collections::BTreeSet<u32> = self
            .model
            .seats
            .iter()
            .filter_map(|s| s.node.as_ref().filter(|n| s.running && n.is_primary()))
            .flat_map(|n| {
                let mine = |k: &&crate::node::Key| {
                    Slot::new(u64::from(k.0)).is_ok_and(|s| n.me().slots.contains(s))
                };
                n.data.iter().filter(mine).map(|k| k.1)
            })
            .collect();
        let (written, held) = (self.model.writes.len() as u64, held.len() as u64);
        Ok((written, written - held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Inbound;

    /// A cluster whose first primary was frozen, with so many writes in its sockets, until its replica took its place.
    fn thawed(profile: Profile, writes: usize) -> ModelWorld {
        let mut world = ModelWorld::new(profile);
        let form = Form {
            shards: 3,
            replicas: 1,
            hosts: Vec::new(),
            aof: true,
            keep_every_write: false,
        };
        world.form(&form).expect("it is formed");
        world.write(30).expect("every slot is served");
        world.operator.wake(&mut world.model);
        world.pass_time(1_000);
        let seat = world.seat("n0").expect("it is there");
        world.model.freeze(seat);
        let seen = &mut world.model.seats[seat];
        let slots = seen.node.as_ref().map(|n| n.me().slots.clone());
        let slots = slots.expect("it is a primary");
        let late = slots.slots().take(writes).map(Inbound::Write);
        seen.inbox.extend(late);
        world.pass_time(20_000);
        world.model.thaw(seat);
        world.pass_time(10_000);
        world.judged().expect("nothing is wrong");
        world
    }

    #[test]
    fn writes_that_a_frozen_primary_took_are_told_or_there_are_none() {
        for profile in [Profile::Redis70, Profile::Valkey9] {
            let world = thawed(profile, 5);
            let (dropped, untold) = world.model.dropped_late();
            assert_eq!((dropped, untold), (5, Vec::new()), "{profile:?}");
            let told: Vec<_> = world.model.oracle.told_dropped.values().collect();
            assert_eq!(told.len(), 1, "once: {told:?}");

            let world = thawed(profile, 0);
            assert_eq!(world.model.dropped_late().0, 0);
            assert!(world.model.oracle.told_dropped.is_empty(), "{profile:?}");
        }
    }
}
