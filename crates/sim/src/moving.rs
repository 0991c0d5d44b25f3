//! Slots on their way from one primary to another. Some go together, and each of their commands is an event of its own,
//! so that anything may happen between two of them: whatever breaks a move off leaves slots open and half moved.

use shardwright_topology::{NodeId, Slot, SlotSet};

use crate::commands::{Command, Refusal};
use crate::dice::Dice;
use crate::model::{Event, Model};
use crate::node::Key;
use crate::operator::{Operator, Trouble, Turn};
use crate::steps::reached;

/// So many slots are open at a time. A mover that keeps many in flight is faster, and leaves more to close.
const TOGETHER: usize = 16;
/// So many keys of each go with one command.
const KEYS_MAX: u32 = 2;
/// From one command to the next, least and most, in milliseconds. Not measured: only what falls between matters.
const COMMAND_MS: (u64, u64) = (1, 2);

/// What is done next for the slots that are open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Import,
    Migrate,
    Keys,
    Take,
    Give,
}

/// One step that moves slots, under way.
#[derive(Clone, Debug)]
pub(crate) struct Mover {
    from: NodeId,
    to: NodeId,
    left: Vec<Slot>,
    open: Vec<Slot>,
    stage: Stage,
}

impl Mover {
    pub(crate) fn new(from: NodeId, to: NodeId, slots: &SlotSet) -> Self {
        let mut left: Vec<Slot> = slots.slots().collect();
        left.reverse();
        Self {
            from,
            to,
            left,
            open: Vec::new(),
            stage: Stage::Import,
        }
    }

    /// The next command. Returns whether there is more to do.
    fn go_on(&mut self, model: &mut Model) -> Result<bool, Refusal> {
        let (source, target) = (reached(self.from, model)?, reached(self.to, model)?);
        match self.stage {
            Stage::Import => {
                let at = self.left.len().saturating_sub(TOGETHER);
                self.open = self.left.split_off(at);
                if self.open.is_empty() {
                    return Ok(false);
                }
                let from = self.from;
                self.each(model, target, |slot| Command::Importing(slot, from))?;
                self.stage = Stage::Migrate;
            }
            Stage::Migrate => {
                let to = self.to;
                self.each(model, source, |slot| Command::Migrating(slot, to))?;
                self.stage = Stage::Keys;
            }
            Stage::Keys => {
                let holds = |slot: &&Slot| {
                    let node = model.seats[source].node.as_ref();
                    node.is_some_and(|n| n.keys_in(**slot).next().is_some())
                };
                let full: Vec<Slot> = self.open.iter().filter(holds).copied().collect();
                if full.is_empty() {
                    self.stage = Stage::Take;
                }
                for slot in full {
                    model.move_keys_as_told(source, target, slot, KEYS_MAX)?;
                }
            }
            Stage::Take => {
                model.oracle.assigns(&self.open, model.now);
                let to = self.to;
                self.each(model, target, |slot| Command::Assign(slot, to))?;
                self.stage = Stage::Give;
            }
            Stage::Give => {
                let to = self.to;
                self.each(model, source, |slot| Command::Assign(slot, to))?;
                self.stage = Stage::Import;
            }
        }
        Ok(true)
    }

    fn each(
        &self,
        model: &mut Model,
        seat: usize,
        command: impl Fn(Slot) -> Command,
    ) -> Result<(), Refusal> {
        for slot in &self.open {
            model.command(seat, &command(*slot))?;
        }
        Ok(())
    }
}

/// What is on its way, and what goes wrong with it.
#[derive(Debug, Default)]
pub(crate) struct Movers {
    all: Vec<Mover>,
}

impl Movers {
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.all.clear();
    }

    /// The next command of one of them. One that is refused, or gets no answer, ends where it is.
    fn go_on(&mut self, trouble: Trouble, dice: &mut Dice, model: &mut Model) {
        let i = dice.index(self.all.len());
        let claimed = model.claimed();
        let done = self.all[i].go_on(model);
        let lost = claimed.difference(&model.claimed());
        if !lost.is_empty() {
            model.accuse(format!("a move lost slots {lost}"));
        }
        // A reply is lost less often than that of a step: a move has hundreds.
        let deaf = dice.below(1_000) < trouble.lost_reply;
        match done {
            Ok(true) if !deaf => {}
            Ok(_) => drop(self.all.remove(i)),
            Err(refusal) => {
                self.all.remove(i);
                model
                    .trace
                    .note(model.now, format_args!("a move ends: {refusal}"));
            }
        }
    }
}

impl Model {
    /// How many more keys a server takes before it deletes others.
    pub(crate) fn room(&self, seat: usize) -> u64 {
        let s = &self.seats[seat];
        let held = s.node.as_ref().map_or(0, |n| n.data.len() as u64);
        s.keys_max
            .map_or(u64::MAX, |most| most.saturating_sub(held))
    }

    /// A primary beyond its limit deletes its oldest keys, and so do its replicas. Returns which.
    pub(crate) fn evict(&mut self, at: usize) -> Vec<Key> {
        let mut gone = Vec::new();
        while let (Some(most), Some(node)) = (self.seats[at].keys_max, self.seats[at].node.as_mut())
            && node.data.len() as u64 > most
        {
            let Some(oldest) = node.data.iter().min_by_key(|key| key.1).copied() else {
                break;
            };
            node.evicted += 1;
            gone.push(oldest);
            self.change(at, oldest, false);
        }
        gone
    }
}

impl Operator {
    /// Begins to move slots; the pass ends when all moves have.
    pub(crate) fn begin_move(&mut self, mover: Mover, model: &mut Model) -> Result<(), Refusal> {
        reached(mover.from, model)?;
        reached(mover.to, model)?;
        if self.movers.is_empty() {
            model.after(1, Event::Operator(Turn::Move(self.life)));
        }
        self.movers.all.push(mover);
        Ok(())
    }

    pub(crate) fn move_on(&mut self, model: &mut Model) {
        if self.movers.is_empty() {
            return;
        }
        self.movers.go_on(self.trouble, &mut self.dice, model);
        if !self.movers.is_empty() {
            let ms = self.dice.within(COMMAND_MS);
            model.after(ms, Event::Operator(Turn::Move(self.life)));
        }
    }
}
