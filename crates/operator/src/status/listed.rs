//! Which shards a status lists: all of a cluster of usual size. An object holds about a megabyte, and the nodes of the
//! largest clusters that may be declared would take more.

use shardwright_manifest::ShardStatus;

/// How many nodes a status lists at most: a quarter of a megabyte, where all are in order.
const NODES_MAX: usize = 1_000;

/// The shards that are listed, and how many are not, if some are not.
pub(super) fn listed(shards: Vec<ShardStatus>) -> (Vec<ShardStatus>, Option<u32>) {
    if shards.iter().map(nodes).sum::<usize>() <= NODES_MAX {
        return (shards, None);
    }
    let all = shards.len();
    let mut room = NODES_MAX;
    let listed: Vec<ShardStatus> = shards
        .into_iter()
        .filter_map(amiss)
        .take_while(|shard| {
            let left = room.checked_sub(nodes(shard));
            room = left.unwrap_or(0);
            left.is_some()
        })
        .collect();
    let unlisted = u32::try_from(all - listed.len()).unwrap_or(u32::MAX);
    (listed, Some(unlisted))
}

fn nodes(shard: &ShardStatus) -> usize {
    shard.replicas.len() + usize::from(shard.primary.is_some())
}

/// The shard with its primary and those of its replicas that are not in order; None if all are.
fn amiss(mut shard: ShardStatus) -> Option<ShardStatus> {
    shard.replicas.retain(|node| node.trouble.is_some());
    let primary_amiss = shard.primary.as_ref().is_none_or(|p| p.trouble.is_some());
    (primary_amiss || !shard.replicas.is_empty()).then_some(shard)
}

#[cfg(test)]
mod tests {
    use shardwright_manifest::{NodeStatus, RedisClusterStatus};

    use super::*;

    fn node(trouble: Option<&str>) -> NodeStatus {
        NodeStatus {
            id: Some("0".repeat(40)),
            pod: Some("a".repeat(58)),
            host: Some("h".repeat(63)),
            zone: Some("z".repeat(20)),
            version: Some("Valkey 9.1.10".to_owned()),
            trouble: trouble.map(str::to_owned),
        }
    }

    fn shards(count: usize, replicas: usize, trouble: Option<&str>) -> Vec<ShardStatus> {
        let shard = ShardStatus {
            slots: "1000-1015".to_owned(),
            slot_count: 16,
            primary: Some(node(trouble)),
            replicas: vec![node(trouble); replicas],
        };
        vec![shard; count]
    }

    #[test]
    fn a_cluster_of_usual_size_is_listed_as_it_is() {
        let all = shards(500, 1, None);
        assert_eq!(listed(all.clone()), (all, None));
    }

    #[test]
    fn of_a_large_cluster_only_what_is_not_in_order_is_listed() {
        let mut all = shards(1_000, 10, None);
        assert_eq!(listed(all.clone()), (Vec::new(), Some(1_000)));
        all[7].replicas[3] = node(Some("loading"));
        all[9].primary = None;
        let (some, unlisted) = listed(all);
        assert_eq!(unlisted, Some(998));
        let replicas: Vec<usize> = some.iter().map(|s| s.replicas.len()).collect();
        assert_eq!(replicas, [1, 0]);
    }

    #[test]
    fn the_largest_status_fits_into_an_object() {
        let (some, unlisted) = listed(shards(1_000, 10, Some("no link to its primary")));
        assert_eq!(some.len(), NODES_MAX / 11);
        assert_eq!(unlisted, Some(1_000 - 90));
        let status = RedisClusterStatus {
            shards: some,
            unlisted_shards: unlisted,
            ..RedisClusterStatus::default()
        };
        let text = serde_json::to_string(&status).expect("plain data");
        assert!(text.len() < 500_000, "{} bytes", text.len());
    }
}
