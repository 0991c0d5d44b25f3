//! What the log says of steps: with the names of servers, and each node's whole id once.

use std::error::Error;

use shardwright_planner::{Action, Step};
use shardwright_topology::{NodeId, Observed};

use crate::execute::Outcome;

/// One line for each step: done, or not and why. Slots move in hundreds of batches, whose lines are for those who look
/// closely.
pub(crate) fn log(outcomes: &[Outcome], o: &Observed) {
    let name = |id: NodeId| {
        let server = o.member(id).and_then(|member| member.server.as_ref());
        server.map(|server| server.0.clone())
    };
    for Outcome { step, result } in outcomes {
        let (text, nodes) = (text(step, name), nodes(&step.action, name));
        match result {
            Ok(()) if is_batch(&step.action) => tracing::debug!(step = text, nodes, "done"),
            Ok(()) => tracing::info!(step = text, nodes, "done"),
            Err(error) => {
                let error = chain(error);
                tracing::warn!(step = text, nodes, error, "not done");
            }
        }
    }
}

fn is_batch(action: &Action) -> bool {
    matches!(action, Action::MoveSlots { .. } | Action::MoveKeys { .. })
}

/// The step, with the names of servers for the short ids of their nodes.
fn text(step: &Step, name: impl Fn(NodeId) -> Option<String>) -> String {
    let mut text = step.to_string();
    for node in step.action.nodes() {
        if let Some(name) = name(node) {
            text = text.replace(&node.short(), &name);
        }
    }
    text
}

/// Every node and server that the action is about: the name, and the whole id of a node.
fn nodes(action: &Action, name: impl Fn(NodeId) -> Option<String>) -> String {
    let nodes = action.nodes().into_iter().map(|node| match name(node) {
        Some(name) => format!("{name} {node}"),
        None => node.to_string(),
    });
    let server = action.server().map(|server| server.0.clone());
    let all: Vec<String> = nodes.chain(server).collect();
    all.join(", ")
}

/// An error with its causes, for a log line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use shardwright_planner::Reason;
    use shardwright_topology::ServerName;

    #[test]
    fn a_step_is_told_with_names_and_each_whole_id_once() {
        let (primary, replica) = (
            NodeId::from_bytes([0xaa; 20]),
            NodeId::from_bytes([0xbb; 20]),
        );
        let name = |id: NodeId| (id == primary).then(|| "redis-1".to_owned());
        let step = Step {
            action: Action::Switchover { replica, primary },
            because: Reason::Asked,
            requires: Vec::new(),
        };
        assert_eq!(
            text(&step, name),
            "switch over from redis-1 to its replica bbbbbbbb: it was asked for"
        );
        assert_eq!(
            nodes(&step.action, name),
            format!("{}, redis-1 {}", "bb".repeat(20), "aa".repeat(20))
        );
        let server = ServerName("redis-3".to_owned());
        let start = Action::StartServer { server };
        assert_eq!(nodes(&start, name), "redis-3");
    }
}
