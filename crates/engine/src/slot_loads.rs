//! What each slot holds: its keys, and the memory that they take.

use std::collections::BTreeMap;

use redis::Value;
use shardwright_topology::{Slot, SlotSet};

use crate::client::Request;
use crate::{Client, Error, Feature};

/// How many slots are asked about in one round trip: as many replies as a server writes within a millisecond or two.
const SLOTS_AT_ONCE: usize = 2_048;
const STATS: &str = "CLUSTER SLOT-STATS";
/// The figure of `CLUSTER SLOT-STATS` that newer engines have.
const MEMORY: &[u8] = b"memory-bytes";

impl Client {
    /// How many keys each of these slots has here.
    pub async fn keys_of_slots(&self, slots: &SlotSet) -> Result<BTreeMap<Slot, u64>, Error> {
        let all: Vec<Slot> = slots.slots().collect();
        let mut keys = BTreeMap::new();
        for part in all.chunks(SLOTS_AT_ONCE) {
            let counts = self.count_keys_of(part).await?;
            keys.extend(part.iter().copied().zip(counts));
        }
        Ok(keys)
    }

    /// How much memory each of these slots takes here, in bytes. `None` where the server does not tell: it has no
    /// `CLUSTER SLOT-STATS`, or that has no `memory-bytes`.
    pub async fn memory_of_slots(
        &self,
        slots: &SlotSet,
    ) -> Result<Option<BTreeMap<Slot, u64>>, Error> {
        if !self.capabilities().await?.has(Feature::SlotStats) {
            return Ok(None);
        }
        let ranges = slots.ranges().iter().map(|range| {
            let request = Request::new(STATS).arg("SLOTSRANGE");
            request
                .arg(range.first().number())
                .arg(range.last().number())
        });
        let replies = self.ask_all(STATS, ranges.collect()).await?;
        let mut memory = BTreeMap::new();
        for reply in replies {
            let reply = reply?;
            let told = memory_told(&reply)
                .map_err(|OtherForm| self.asked(STATS).strange(format!("{reply:?}")))?;
            let Some(told) = told else { return Ok(None) };
            memory.extend(told);
        }
        Ok(Some(memory))
    }

    /// How much memory the data set takes, in bytes: without what the server itself needs. `None` where it does not tell.
    pub async fn data_bytes(&self) -> Result<Option<u64>, Error> {
        let info = self.info(Some("memory")).await?;
        let mut lines = info.split(|byte| *byte == b'\n');
        let value = lines.find_map(|line| line.trim_ascii().strip_prefix(b"used_memory_dataset:"));
        let text = value.and_then(|value| std::str::from_utf8(value).ok());
        Ok(text.and_then(|text| text.parse().ok()))
    }
}

/// A reply of another form than `CLUSTER SLOT-STATS` has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct OtherForm;

/// The memory of each slot in a reply of `CLUSTER SLOT-STATS`; `None` where the reply does not have the figure.
fn memory_told(reply: &Value) -> Result<Option<Vec<(Slot, u64)>>, OtherForm> {
    let Value::Array(entries) = reply else {
        return Err(OtherForm);
    };
    let mut told = Vec::new();
    for entry in entries {
        let Value::Array(entry) = entry else {
            return Err(OtherForm);
        };
        let [Value::Int(slot), Value::Array(figures)] = entry.as_slice() else {
            return Err(OtherForm);
        };
        let mut pairs = figures.chunks_exact(2);
        let found = pairs.find_map(|pair| match pair {
            [Value::BulkString(name), Value::Int(number)] if name == MEMORY => Some(*number),
            _ => None,
        });
        let Some(number) = found else {
            return Ok(None);
        };
        let slot = u64::try_from(*slot).map(Slot::new);
        match (slot, u64::try_from(number)) {
            (Ok(Ok(slot)), Ok(bytes)) => told.push((slot, bytes)),
            _ => return Err(OtherForm),
        }
    }
    Ok(Some(told))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(slot: i64, figures: &[(&str, i64)]) -> Value {
        let pair = |(name, number): &(&str, i64)| {
            [
                Value::BulkString(name.as_bytes().to_vec()),
                Value::Int(*number),
            ]
        };
        let figures = figures.iter().flat_map(pair).collect();
        Value::Array(vec![Value::Int(slot), Value::Array(figures)])
    }

    #[test]
    fn memory_is_told_or_it_is_not() {
        let with = |bytes| entry(7, &[("key-count", 2), ("memory-bytes", bytes)]);
        let seven = Slot::new(7).expect("a slot");
        assert_eq!(
            memory_told(&Value::Array(vec![with(640)])),
            Ok(Some(vec![(seven, 640)]))
        );
        let without = entry(8, &[("key-count", 2), ("cpu-usec", 0)]);
        assert_eq!(memory_told(&Value::Array(vec![without])), Ok(None));
        assert_eq!(memory_told(&Value::Array(vec![with(-1)])), Err(OtherForm));
        assert_eq!(
            memory_told(&Value::Array(vec![entry(16_384, &[("memory-bytes", 1)])])),
            Err(OtherForm)
        );
        assert_eq!(memory_told(&Value::Nil), Err(OtherForm));
    }
}
