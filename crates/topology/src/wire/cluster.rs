//! `CLUSTER INFO` and `CLUSTER MYID`.

use super::error::{Command, Fault, WireError};
use super::text::{lines, number};
use crate::{ClusterInfo, ConfigEpoch, NodeId, SLOT_COUNT};

/// Reads the reply to `CLUSTER MYID`.
///
/// # Errors
/// When it is not 40 hexadecimal digits.
pub fn parse_my_id(text: &[u8]) -> Result<NodeId, WireError> {
    let trimmed = text.trim_ascii();
    NodeId::parse(trimmed).map_err(|_| {
        let fault = Fault::IsNot("40 hexadecimal digits");
        WireError::new(Command::ClusterMyId, None, "the node id", fault, trimmed)
    })
}

/// Reads the reply to `CLUSTER INFO` (Redis documentation, "CLUSTER INFO"). Further fields are passed over.
///
/// # Errors
/// When one of the six fields is missing or is not what it has to be.
pub fn parse_cluster_info(text: &[u8]) -> Result<ClusterInfo, WireError> {
    let fields = Fields { text };
    let state = "cluster_state";
    let state_ok = match fields.value(state)? {
        (_, b"ok") => true,
        (_, b"fail") => false,
        (line, other) => return Err(wrong(line, state, "`ok` or `fail`", other)),
    };
    Ok(ClusterInfo {
        state_ok,
        slots_assigned: fields.count("cluster_slots_assigned", "within 0-16384", |n| {
            u16::try_from(n).ok().filter(|n| *n <= SLOT_COUNT)
        })?,
        known_nodes: fields.count("cluster_known_nodes", COUNT, |n| u32::try_from(n).ok())?,
        size: fields.count("cluster_size", COUNT, |n| u32::try_from(n).ok())?,
        current_epoch: fields.count("cluster_current_epoch", COUNT, |n| Some(ConfigEpoch(n)))?,
        my_epoch: fields.count("cluster_my_epoch", COUNT, |n| Some(ConfigEpoch(n)))?,
    })
}

const COUNT: &str = "a number that fits";

/// The reply, searched once for each field: it has about 25 short lines.
struct Fields<'a> {
    text: &'a [u8],
}

impl<'a> Fields<'a> {
    fn value(&self, field: &'static str) -> Result<(usize, &'a [u8]), WireError> {
        lines(self.text)
            .find_map(|(line, bytes)| {
                let value = bytes.strip_prefix(field.as_bytes())?.strip_prefix(b":")?;
                Some((line, value))
            })
            .ok_or_else(|| {
                WireError::new(Command::ClusterInfo, None, field, Fault::Missing, self.text)
            })
    }

    fn count<T>(
        &self,
        field: &'static str,
        what: &'static str,
        fit: impl Fn(u64) -> Option<T>,
    ) -> Result<T, WireError> {
        let (line, value) = self.value(field)?;
        number(value)
            .and_then(fit)
            .ok_or_else(|| wrong(line, field, what, value))
    }
}

fn wrong(line: usize, field: &'static str, what: &'static str, value: &[u8]) -> WireError {
    let fault = Fault::IsNot(what);
    WireError::new(Command::ClusterInfo, Some(line), field, fault, value)
}
