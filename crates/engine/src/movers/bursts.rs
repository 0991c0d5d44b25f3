//! Which keys go together, and for how long the source may wait for the target.

use std::collections::VecDeque;
use std::time::Duration;

use shardwright_topology::Slot;

use super::{Allowance, Bounds, MoveError, Pair, ends};
use crate::{Client, Error, Migrate};

/// How many keys are read ahead: names and sizes of a few hundred kB, read in milliseconds.
const READ_KEYS: u64 = 4096;
/// How many while clients are there: read in a fraction of a millisecond.
const READ_KEYS_ALONE: u64 = 128;
/// A greater key goes alone: the reply about it takes as long as the reply about all it goes with.
const ALONE_BYTES: u64 = 1 << 20;
/// How many commands go together at most. Each waits for the target by itself, so a target that
/// froze would block the source as many times.
const MOVES_MAX: usize = 32;
/// How long all commands of a burst together may wait for a target that is silent: less than the
/// time (`cluster-node-timeout`, 5 s by our default) after which the source itself is taken for failed.
const SILENCE_MAX: Duration = Duration::from_secs(4);
/// What a healthy target needs at most for a small step, on a busy machine too.
const STEP_MAX: Duration = Duration::from_secs(1);
/// What a slow target takes in of one great value, in bytes per millisecond.
const SLOW_BYTES_PER_MS: u64 = 10_000;

/// A key to move.
#[derive(Debug)]
struct Item {
    slot: Slot,
    key: Vec<u8>,
    bytes: u64,
    /// Whether its size was told; else it is the average of its server.
    told: bool,
}

/// Keys of one slot that move by one command.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) slot: Slot,
    pub(super) keys: Vec<Vec<u8>>,
    pub(super) bytes: u64,
    /// Whether the sizes of all its keys were told.
    pub(super) told: bool,
    /// What the greatest of its keys takes.
    pub(super) greatest: u64,
    limit: Duration,
}

impl Batch {
    pub(super) fn count(&self) -> u64 {
        self.keys.len() as u64
    }

    /// The command that moves it.
    pub(super) fn order<'a>(&'a self, pair: &Pair<'a>, replace: bool) -> Migrate<'a> {
        Migrate {
            to: pair.target_at,
            keys: &self.keys,
            replace,
            limit: self.limit,
            credentials: pair.credentials,
        }
    }
}

/// The keys that are still to move, read from the source bit by bit.
#[derive(Debug)]
pub(super) struct Feed {
    /// Slots that have not been read to their end, and how many keys each is believed to have.
    unread: VecDeque<(Slot, u64)>,
    read: VecDeque<Item>,
}

impl Feed {
    pub(super) fn new(slots: impl Iterator<Item = (Slot, u64)>) -> Self {
        Self {
            unread: slots.filter(|(_, keys)| *keys > 0).collect(),
            read: VecDeque::new(),
        }
    }

    /// Reads more keys where none are left. False where there are no more.
    ///
    /// What was read before must have moved: the source lists it again else.
    pub(super) async fn fill(
        &mut self,
        pair: &Pair<'_>,
        by: &Client,
        alone: bool,
    ) -> Result<bool, Error> {
        let room = if alone { READ_KEYS_ALONE } else { READ_KEYS };
        while self.read.is_empty() {
            let wanted = self.next_slots(room);
            if wanted.is_empty() {
                return Ok(false);
            }
            let turn = ends::turn(pair, alone).await;
            let lists = by.keys_in_slots(&wanted).await?;
            let names = lists.iter().flatten().map(Vec::as_slice);
            let sizes = by.memory_usage_of(names).await?;
            drop(turn);
            let untold = if sizes.contains(&None) {
                by.average_key_bytes().await?
            } else {
                0
            };
            let mut sizes = sizes.into_iter();
            for ((slot, limit), keys) in wanted.into_iter().zip(lists) {
                let full = keys.len() >= limit as usize;
                let items = keys.into_iter().zip(&mut sizes);
                self.read.extend(items.map(|(key, bytes)| Item {
                    slot,
                    key,
                    bytes: bytes.unwrap_or(untold),
                    told: bytes.is_some(),
                }));
                if full {
                    // It is the last one of those asked for, or has got more keys meanwhile.
                    self.unread.push_front((slot, READ_KEYS));
                }
            }
        }
        Ok(true)
    }

    /// The slots to read next, with how many keys of each. One more is asked for than a slot is
    /// believed to have: so it is seen whether it has more.
    fn next_slots(&mut self, mut room: u64) -> Vec<(Slot, u32)> {
        let mut wanted = Vec::new();
        while room > 0
            && let Some((slot, keys)) = self.unread.pop_front()
        {
            let share = room.min(keys.saturating_add(1));
            room -= share;
            // At most READ_KEYS.
            wanted.push((slot, u32::try_from(share).unwrap_or(u32::MAX)));
        }
        wanted
    }

    /// Refuses the first key of those that were read which is too great to move.
    pub(super) async fn refuse_great(
        &self,
        pair: &Pair<'_>,
        bounds: &Bounds,
    ) -> Result<(), MoveError> {
        for item in &self.read {
            bounds
                .refuse(pair.source, item.slot, &item.key, item.bytes)
                .await?;
        }
        Ok(())
    }

    /// Takes what may go now: at least one key where there is one.
    pub(super) fn take(&mut self, allowance: &Allowance) -> Vec<Batch> {
        let mut batches: Vec<Batch> = Vec::new();
        let (mut keys, mut bytes) = (0, 0);
        while let Some(next) = self.read.front() {
            let fits = keys < allowance.keys
                && bytes + next.bytes <= allowance.bytes
                && next.bytes <= ALONE_BYTES;
            if keys > 0 && !fits {
                break;
            }
            let same = batches.last().is_some_and(|batch| batch.slot == next.slot);
            if !same && batches.len() == MOVES_MAX {
                break;
            }
            let alone = !fits;
            let Some(Item {
                slot,
                key,
                bytes: size,
                told,
            }) = self.read.pop_front()
            else {
                break;
            };
            keys += 1;
            bytes += size;
            match batches.last_mut().filter(|_| same) {
                Some(batch) => {
                    batch.keys.push(key);
                    batch.bytes += size;
                    batch.told &= told;
                    batch.greatest = batch.greatest.max(size);
                }
                None => batches.push(Batch {
                    slot,
                    keys: vec![key],
                    bytes: size,
                    told,
                    greatest: size,
                    limit: STEP_MAX,
                }),
            }
            if alone {
                break;
            }
        }
        set_limits(&mut batches);
        batches
    }
}

fn set_limits(batches: &mut [Batch]) {
    let count = u32::try_from(batches.len()).unwrap_or(u32::MAX).max(1);
    let share = STEP_MAX.min(SILENCE_MAX / count);
    for batch in batches {
        batch.limit = share + Duration::from_millis(batch.bytes / SLOW_BYTES_PER_MS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(items: &[(u64, u64)]) -> Feed {
        let item = |(slot, bytes): &(u64, u64)| Item {
            slot: Slot::new(*slot).expect("a slot"),
            key: b"k".to_vec(),
            bytes: *bytes,
            told: true,
        };
        Feed {
            unread: VecDeque::new(),
            read: items.iter().map(item).collect(),
        }
    }

    fn taken(feed: &mut Feed, keys: u32, bytes: u64) -> Vec<(u16, u64)> {
        let pause = Duration::ZERO;
        let batches = feed.take(&Allowance {
            keys,
            bytes,
            pause,
            alone: false,
        });
        let pairs = batches.iter().map(|b| (b.slot.number(), b.count()));
        pairs.collect()
    }

    #[test]
    fn a_burst_holds_what_is_allowed_and_one_slot_in_each_command() {
        let mut feed = feed(&[(1, 10), (1, 10), (2, 10), (2, 10), (3, 10)]);
        assert_eq!(taken(&mut feed, 3, 1000), [(1, 2), (2, 1)]);
        assert_eq!(taken(&mut feed, 9, 15), [(2, 1)]);
        assert_eq!(taken(&mut feed, 0, 0), [(3, 1)], "one key always goes");
        assert!(taken(&mut feed, 9, 1000).is_empty());
    }

    #[test]
    fn a_great_key_goes_alone_and_its_limit_grows() {
        let great = 200 * ALONE_BYTES;
        let mut feed = feed(&[(1, 10), (1, great), (1, 10)]);
        assert_eq!(taken(&mut feed, 9, u64::MAX / 2), [(1, 1)]);
        let all = Allowance {
            keys: 9,
            bytes: u64::MAX / 2,
            pause: Duration::ZERO,
            alone: false,
        };
        let batches = feed.take(&all);
        assert_eq!((batches.len(), batches[0].bytes), (1, great));
        assert!(batches[0].limit > Duration::from_secs(20));
        assert_eq!(taken(&mut feed, 9, 1000), [(1, 1)]);
    }

    #[test]
    fn a_silent_target_blocks_the_source_for_a_bounded_time() {
        let items: Vec<_> = (0..100).map(|slot| (slot, 10)).collect();
        let all = Allowance {
            keys: 1000,
            bytes: 1 << 20,
            pause: Duration::ZERO,
            alone: false,
        };
        let batches = feed(&items).take(&all);
        assert_eq!(batches.len(), MOVES_MAX);
        let waits: Duration = batches.iter().map(|batch| batch.limit).sum();
        assert!(waits <= SILENCE_MAX, "{waits:?}");
    }
}
