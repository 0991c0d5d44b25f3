//! Which slots each shard of a new cluster gets.

use shardwright_topology::{SLOT_COUNT, SlotRange};

/// The slots of each of `shards` new shards: 16384 divided as redis-cli's `--cluster create` does, so that three
/// shards get 5461, 5462 and 5461. Empty for no shard; at most 16384 shards.
pub fn layout(shards: u16) -> Vec<SlotRange> {
    let shards = u64::from(shards.min(SLOT_COUNT));
    let slots = u64::from(SLOT_COUNT);
    // The i-th boundary is i × 16384 / n, rounded half up, in whole numbers.
    let boundary = |i: u64| (2 * i * slots + shards) / (2 * shards);
    (0..shards)
        .filter_map(|i| SlotRange::new(boundary(i), boundary(i + 1) - 1).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::layout;

    #[test]
    fn three_shards_are_laid_out_as_redis_cli_does() {
        let counts: Vec<u16> = layout(3).iter().map(|r| r.count()).collect();
        assert_eq!(counts, [5461, 5462, 5461]);
        let text: Vec<String> = layout(3).iter().map(ToString::to_string).collect();
        assert_eq!(text, ["0-5460", "5461-10922", "10923-16383"]);
    }

    #[test]
    fn every_layout_covers_every_slot_once() {
        for shards in [1, 2, 3, 4, 5, 6, 7, 10, 99, 500, 1000, 16_384] {
            let ranges = layout(shards);
            assert_eq!(ranges.len(), usize::from(shards));
            let mut next = 0;
            for range in ranges {
                assert_eq!(range.first().number(), next);
                next = range.last().number() + 1;
            }
            assert_eq!(next, 16_384);
        }
    }
}
