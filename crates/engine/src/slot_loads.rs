//! What each slot holds: its keys, and the memory that they take.

use std::collections::BTreeMap;

use redis::Value;
use shardwright_topology::{SizedBy, Slot, SlotSet, SlotSize};

use crate::client::Request;
use crate::{Client, Error, Feature};

/// How many slots are asked about in one round trip: as many replies as a server writes within a millisecond or two.
const SLOTS_AT_ONCE: usize = 2_048;
/// What a key is taken to need where its server tells neither its size nor that of all its data: few are smaller.
const UNTOLD_BYTES: u64 = 128;
/// How many keys are measured in all, where their slots are measured: a tenth of a second's work for the server.
const SAMPLES_ALL: u64 = 20_000;
/// How many of each slot at least.
const SAMPLES_MIN: u64 = 8;
/// How many go in one round trip: the server does nothing else for a millisecond or two.
const SAMPLES_AT_ONCE: u64 = 1_000;
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

    /// What this server holds of each of these slots: what it tells by itself, else by measuring keys, else by their
    /// number and the average of all its keys.
    pub async fn slot_sizes(&self, slots: &SlotSet) -> Result<BTreeMap<Slot, SlotSize>, Error> {
        let keys = self.keys_of_slots(slots).await?;
        let told = self.memory_of_slots(slots).await?;
        let filled = keys.iter().map(|(slot, n)| (*slot, *n));
        let filled: Vec<(Slot, u64)> = filled.filter(|(_, n)| *n > 0).collect();
        let many = u64::try_from(filled.len()).unwrap_or(u64::MAX).max(1);
        let samples = (SAMPLES_ALL / many).max(SAMPLES_MIN);
        let none = SlotSize {
            keys: 0,
            bytes: 0,
            largest: 0,
            by: SizedBy::Keys,
        };
        let mut sizes: BTreeMap<Slot, SlotSize> = keys.keys().map(|slot| (*slot, none)).collect();
        let at_once = usize::try_from(SAMPLES_AT_ONCE / samples)
            .unwrap_or(1)
            .max(1);
        for some in filled.chunks(at_once) {
            sizes.extend(self.sampled(some, samples).await?);
        }
        for (slot, bytes) in told.into_iter().flatten() {
            if let Some(size) = sizes.get_mut(&slot) {
                size.bytes = bytes;
                size.by = SizedBy::Slot;
            }
        }
        Ok(sizes)
    }

    /// Measures up to so many keys of each of these slots.
    async fn sampled(
        &self,
        slots: &[(Slot, u64)],
        samples: u64,
    ) -> Result<Vec<(Slot, SlotSize)>, Error> {
        let some = |keys: u64| u32::try_from(samples.min(keys)).unwrap_or(u32::MAX);
        let wanted: Vec<(Slot, u32)> = slots.iter().map(|(slot, n)| (*slot, some(*n))).collect();
        let lists = self.keys_in_slots(&wanted).await?;
        let names = lists.iter().flatten().map(Vec::as_slice);
        let mut told = self.memory_usage_of(names).await?.into_iter();
        let mut average = None;
        let mut sizes = Vec::new();
        for ((slot, keys), list) in slots.iter().zip(&lists) {
            let some: Vec<Option<u64>> = told.by_ref().take(list.len()).collect();
            let measured: Option<Vec<u64>> = some.into_iter().collect();
            let size = if let Some(measured) = measured {
                let sum: u64 = measured.iter().sum();
                let seen = u64::try_from(measured.len()).unwrap_or(u64::MAX).max(1);
                SlotSize {
                    keys: *keys,
                    bytes: whole(sum, *keys, seen),
                    largest: measured.into_iter().max().unwrap_or(0),
                    by: SizedBy::Keys,
                }
            } else {
                let each = match average {
                    Some(each) => each,
                    None => *average.insert(self.average_key_bytes().await?),
                };
                SlotSize {
                    keys: *keys,
                    bytes: each.saturating_mul(*keys),
                    largest: 0,
                    by: SizedBy::Average,
                }
            };
            sizes.push((*slot, size));
        }
        Ok(sizes)
    }

    /// What a key takes here on average, in bytes: for servers that do not tell the size of each.
    pub async fn average_key_bytes(&self) -> Result<u64, Error> {
        let Some(bytes) = self.data_bytes().await? else {
            return Ok(UNTOLD_BYTES);
        };
        let keys = self.key_count().await?;
        Ok((bytes / keys.max(1)).max(1))
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

/// What so many keys take, where some of them take this sum.
fn whole(sum: u64, keys: u64, seen: u64) -> u64 {
    let whole = u128::from(sum) * u128::from(keys.max(seen)) / u128::from(seen);
    u64::try_from(whole).unwrap_or(u64::MAX)
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
