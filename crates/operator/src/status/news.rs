//! What a log says of a status that is another than before.

use shardwright_manifest::RedisClusterStatus;

/// A line for another state, and one for each condition that has turned. Reasons and wording alone are none: while views
/// converge they change several times a second.
pub(crate) fn news(before: Option<&RedisClusterStatus>, new: &RedisClusterStatus) -> Vec<String> {
    let mut lines = Vec::new();
    match (before.and_then(|b| b.state), new.state) {
        (Some(was), Some(is)) if was != is => lines.push(format!("state {was} -> {is}")),
        (None, Some(is)) => lines.push(format!("state {is}")),
        (Some(_), Some(_)) | (_, None) => {}
    }
    for condition in &new.conditions {
        let mut all = before.iter().flat_map(|b| &b.conditions);
        let was = all.find(|c| c.kind == condition.kind);
        if was.is_none_or(|was| was.status != condition.status) {
            let (kind, reason) = (&condition.kind, &condition.reason);
            let (status, message) = (condition.status, &condition.message);
            lines.push(format!("{kind}={status:?} {reason}: {message}"));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use shardwright_manifest::{Condition, ConditionStatus, StateWord};

    fn status(state: StateWord, ready: ConditionStatus, message: &str) -> RedisClusterStatus {
        RedisClusterStatus {
            state: Some(state),
            conditions: vec![Condition {
                kind: "Ready".to_owned(),
                status: ready,
                reason: "Why".to_owned(),
                message: message.to_owned(),
                last_transition_time: String::new(),
                observed_generation: None,
            }],
            ..RedisClusterStatus::default()
        }
    }

    #[test]
    fn a_state_that_changes_and_a_condition_that_turns_are_lines_and_wording_is_none() {
        let healthy = status(StateWord::Healthy, ConditionStatus::True, "all is well");
        let first = news(None, &healthy);
        assert_eq!(first, ["state Healthy", "Ready=True Why: all is well"]);
        let other = status(StateWord::Healthy, ConditionStatus::True, "in other words");
        assert_eq!(news(Some(&healthy), &other), Vec::<String>::new());
        let down = status(StateWord::Down, ConditionStatus::False, "no");
        assert_eq!(
            news(Some(&other), &down),
            ["state Healthy -> Down", "Ready=False Why: no"]
        );
    }
}
