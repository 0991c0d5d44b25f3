//! Steps: what an executor reads again before each, the command it sends, and the words for people.

use std::collections::VecDeque;

use shardwright_planner::{Action, Crowded, Precondition, Reason, Step};
use shardwright_topology::{Formed, NodeId, ServerName, Slot, Timestamp};

use crate::commands::Command;
use crate::model::Model;
use crate::moving::Mover;
use crate::node::Node;
use crate::operator::Operator;

impl Operator {
    /// Does what an action says.
    pub(crate) fn act(&mut self, action: &Action, model: &mut Model) -> Result<(), &'static str> {
        match action {
            Action::StartServer { server } => {
                let seat = seat_of(server, model).ok_or("no such server")?;
                if model.operator_cut.contains(&seat) {
                    return Err("the host is not reached");
                }
                model.start(seat, true);
                model.disturb(seat);
                Ok(())
            }
            Action::StartAfresh { server } => {
                let seat = seat_of(server, model).ok_or("no such server")?;
                if model.seats[seat].running {
                    return Err("it runs");
                }
                model.seats[seat].node = None;
                model.start(seat, true);
                model.disturb(seat);
                Ok(())
            }
            Action::Recreate { server, host } => {
                let seat = seat_of(server, model).ok_or("no such server")?;
                model.recreate(seat, host)
            }
            // Its servers are made from nothing that changes.
            Action::Replace { .. } => Err("it starts as it was made"),
            Action::RemoveServer { server } => {
                let seat = seat_of(server, model).ok_or("no such server")?;
                model.remove(seat);
                Ok(())
            }
            Action::RecordFormed => {
                self.formed.get_or_insert_with(|| Formed {
                    cluster_id: "simulated".to_owned(),
                    at: Timestamp(model.now),
                });
                Ok(())
            }
            Action::MoveKeys {
                from,
                to,
                slot,
                keys_max,
                replace,
            } => move_keys([*from, to.node()], *slot, *keys_max, *replace, model),
            Action::CopyFunctions {
                from,
                to,
                libraries,
            } => {
                let (source, target) = (reached(*from, model)?, reached(*to, model)?);
                model.copy_functions(source, target, libraries);
                Ok(())
            }
            Action::MoveSlots { from, to, slots } => {
                self.begin_move(Mover::new(*from, to.node(), slots), model)
            }
            other => {
                let (node, command) = command_of(other, model).ok_or("no such command")?;
                send(node, command, model)
            }
        }
    }
}

/// Sends a command, where the server is reached and answers.
fn send(node: NodeId, command: Command, model: &mut Model) -> Result<(), &'static str> {
    let seat = model.home(node).ok_or("no such node")?;
    if model.operator_cut.contains(&seat) || !model.seats[seat].running {
        return Err("not reached");
    }
    if model.seats[seat].frozen {
        model.leave_command(seat, command);
        return Err("no answer in time");
    }
    if model.seats[seat].loads_until > model.now {
        return Err("loading");
    }
    model.command(seat, &command)
}

/// Moves keys of a slot from one node to another, over what is there if told to.
fn move_keys(
    [from, to]: [NodeId; 2],
    slot: Slot,
    keys_max: u32,
    replace: bool,
    model: &mut Model,
) -> Result<(), &'static str> {
    let (source, target) = (reached(from, model)?, reached(to, model)?);
    if replace {
        model.command(target, &Command::Importing(slot, from))?;
        model.command(source, &Command::Migrating(slot, to))?;
    } else if !open_at(model, source, slot) {
        // A server sends keys of a slot that is not its own only while it takes it in.
        model.command(source, &Command::Importing(slot, to))?;
    }
    model.move_keys_as_told(source, target, slot, keys_max)
}

fn open_at(model: &Model, seat: usize, slot: Slot) -> bool {
    let node = model.seats[seat].node.as_ref();
    node.is_some_and(|n| n.open.iter().any(|o| o.slot() == slot))
}

pub(crate) fn seat_of(server: &ServerName, model: &Model) -> Option<usize> {
    model.seats.iter().position(|s| s.name == *server)
}

pub(crate) fn reached(node: NodeId, model: &Model) -> Result<usize, &'static str> {
    let seat = model.home(node).ok_or("no such node")?;
    if model.answers(seat) && !model.operator_cut.contains(&seat) {
        Ok(seat)
    } else {
        Err("not reached")
    }
}

/// The steps of each node in their order.
pub(crate) fn groups(steps: &[Step]) -> Vec<VecDeque<Step>> {
    let mut groups: Vec<(Option<NodeId>, VecDeque<Step>)> = Vec::new();
    for step in steps {
        let at = step.action.at();
        match groups.iter_mut().find(|(a, _)| at.is_some() && *a == at) {
            Some((_, group)) => group.push_back(step.clone()),
            None => groups.push((at, VecDeque::from([step.clone()]))),
        }
    }
    groups.into_iter().map(|(_, g)| g).collect()
}

/// Reads a precondition again, as the executor does right before the command.
pub(crate) fn holds(p: &Precondition, model: &Model) -> bool {
    let node = |id: &NodeId| {
        reached(*id, model)
            .ok()
            .and_then(|i| model.seats[i].node.as_ref())
    };
    match p {
        Precondition::LivesAt { node: id, address } => {
            reached(*id, model).is_ok_and(|i| Model::address(model.seats[i].at) == *address)
        }
        Precondition::IsBlank { node: id } => node(id).is_some_and(|n| {
            n.peers.len() == 1
                && n.greetings.is_empty()
                && n.me().slots.is_empty()
                && n.data.is_empty()
        }),
        Precondition::IsUnburdened { node: id } => node(id)
            .is_some_and(|n| n.me().slots.is_empty() && (!n.is_primary() || n.data.is_empty())),
        Precondition::OwnsSlots { node: id } => {
            node(id).is_some_and(|n| n.is_primary() && !n.me().slots.is_empty())
        }
        Precondition::IsPrimary { node: id } => node(id).is_some_and(Node::is_primary),
        Precondition::IsReplicaOf { node: id, primary } => {
            node(id).is_some_and(|n| n.me().primary == Some(*primary))
        }
        Precondition::HoldsNoKeyOf { node: id, slot } => {
            node(id).is_some_and(|n| n.keys_in(*slot).next().is_none())
        }
        Precondition::HoldsNoStrayKey { node: id } => {
            node(id).is_some_and(|n| n.is_primary() && crate::faults::stray_keys(n) == 0)
        }
        Precondition::SlotsFree { node: id, slots } => {
            node(id).is_some_and(|n| n.owned().intersection(slots).is_empty())
        }
    }
}

/// The engine's command for an action at a node.
fn command_of(action: &Action, model: &Model) -> Option<(NodeId, Command)> {
    let at = action.at()?;
    let command = match action {
        Action::SetConfigEpoch { epoch, .. } => Command::SetConfigEpoch(epoch.0),
        Action::AddSlots { slots, .. } => Command::AddSlots(slots.clone()),
        Action::Meet { target, .. } => {
            let seats = model.seats.iter();
            let there = seats
                .map(|s| s.at)
                .find(|at| Model::address(*at) == *target.address())?;
            Command::Meet(there)
        }
        Action::Replicate { primary, .. } => Command::Replicate(*primary),
        Action::SetElectable { electable, .. } => Command::SetElectable(*electable),
        Action::Switchover { .. } => Command::Switchover,
        Action::Failover { .. } => Command::Force,
        Action::Takeover { .. } => Command::Takeover,
        Action::Forget { gone, .. } => Command::Forget(gone.node()),
        Action::Reset { .. } => Command::Reset,
        Action::CloseSlot { slot, .. } => Command::Close(*slot),
        Action::AssignSlot { slot, owner, .. } => Command::Assign(*slot, *owner),
        Action::RaiseEpoch { .. } => Command::BumpEpoch,
        Action::StartServer { .. }
        | Action::StartAfresh { .. }
        | Action::Recreate { .. }
        | Action::Replace { .. }
        | Action::RemoveServer { .. }
        | Action::RecordFormed
        | Action::MoveKeys { .. }
        | Action::CopyFunctions { .. }
        | Action::MoveSlots { .. } => return None,
    };
    Some((at, command))
}

/// The kinds of actions, for counting.
pub(crate) const KINDS: [&str; 24] = [
    "StartServer",
    "StartAfresh",
    "Recreate",
    "RemoveServer",
    "RecordFormed",
    "SetConfigEpoch",
    "AddSlots",
    "Meet",
    "Replicate",
    "SetElectable",
    "Switchover",
    "Failover",
    "Takeover",
    "Forget",
    "Reset",
    "CloseSlot",
    "AssignSlot",
    "RaiseEpoch",
    "MoveKeys",
    "CopyFunctions",
    "MoveSlots",
    "spread by role",
    "spread by copy",
    "primaries apart",
];

/// By what a step places a replica better or keeps primaries apart, if that is what it is for.
pub(crate) fn spreads(step: &Step) -> Option<&'static str> {
    let Reason::Crowded(crowded) = &step.because else {
        return None;
    };
    let role = matches!(step.action, Action::Switchover { .. });
    Some(match crowded {
        Crowded::Primaries(_) => "primaries apart",
        Crowded::Copies(_) if role => "spread by role",
        Crowded::Copies(_) => "spread by copy",
    })
}

pub(crate) fn kind(action: &Action) -> &'static str {
    match action {
        Action::StartServer { .. } => "StartServer",
        Action::StartAfresh { .. } => "StartAfresh",
        Action::Recreate { .. } => "Recreate",
        Action::Replace { .. } => "Replace",
        Action::RemoveServer { .. } => "RemoveServer",
        Action::RecordFormed => "RecordFormed",
        Action::SetConfigEpoch { .. } => "SetConfigEpoch",
        Action::AddSlots { .. } => "AddSlots",
        Action::Meet { .. } => "Meet",
        Action::Replicate { .. } => "Replicate",
        Action::SetElectable { .. } => "SetElectable",
        Action::Switchover { .. } => "Switchover",
        Action::Failover { .. } => "Failover",
        Action::Takeover { .. } => "Takeover",
        Action::Forget { .. } => "Forget",
        Action::Reset { .. } => "Reset",
        Action::CloseSlot { .. } => "CloseSlot",
        Action::AssignSlot { .. } => "AssignSlot",
        Action::RaiseEpoch { .. } => "RaiseEpoch",
        Action::MoveKeys { .. } => "MoveKeys",
        Action::CopyFunctions { .. } => "CopyFunctions",
        Action::MoveSlots { .. } => "MoveSlots",
    }
}

/// A text with names instead of ids and addresses.
pub(crate) fn named(text: &str, model: &Model) -> String {
    let mut text = text.to_owned();
    for (id, name) in &model.names {
        let short = id.short();
        if text.contains(&short) {
            text = text.replace(&id.to_string(), name).replace(&short, name);
        }
    }
    text
}
