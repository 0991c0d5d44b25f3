//! What it costs to keep a cluster that is at rest.

use std::time::Duration;

use shardwright_engine::{Access, Endpoint};
use shardwright_planner::{Desired, Limits};
use shardwright_runtime::{End, Guest, Keeper, Links};
use shardwright_testkit::{Cluster, Server, each_engine};

const SOON: Duration = Duration::from_secs(20);
/// How much a pass reads of each node at most while all is at rest, in bytes.
const READ_MAX: u64 = 2_048;
const PASSES: u64 = 10;

/// What a server has written to its clients so far; and what it writes to tell that.
async fn written(server: &Server) -> Result<(u64, u64), shardwright_testkit::Error> {
    let stats: String = server.ask(&["INFO", "stats"]).await?;
    let mut lines = stats.lines();
    let value = lines.find_map(|line| line.strip_prefix("total_net_output_bytes:"));
    let value = value.and_then(|value| value.trim().parse().ok());
    // As `$LENGTH\r\n...\r\n`.
    let told = stats.len() + stats.len().to_string().len() + 5;
    Ok((value.expect("a figure"), told as u64))
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_pass_at_rest_reads_little_and_sees_what_changes(engine) {
        let cluster = Cluster::formed(&engine, 3, 1, |builder| builder).await?;
        let endpoint: Endpoint = cluster[0].address().parse()?;
        let guest = Guest::of(&[endpoint]).await?;
        let links = Links::new(Access::default(), None);
        let mut keeper = Keeper::new(guest, links, Desired::guest(), Limits::default());
        let End::Settled(first) = keeper.settle(SOON, |_| {}).await? else {
            return Err("it is not at rest".into());
        };

        let mut before = Vec::new();
        for server in &cluster.servers {
            before.push(written(server).await?);
        }
        let mut last = None;
        for _ in 0..PASSES {
            last = Some(keeper.look().await?);
        }
        for (server, (before, told)) in cluster.servers.iter().zip(before) {
            let read = (written(server).await?.0 - before - told) / PASSES;
            assert!(read > 0 && read <= READ_MAX, "{}: {read} bytes a pass", server.address());
        }
        let last = last.expect("there were passes").observed;
        for (was, (_, is)) in first.observed.views().zip(last.views()) {
            assert_eq!(was.1.server.run_id, is.server.run_id);
            assert_eq!(was.1.rows.len(), is.rows.len());
        }

        // A key that is written, and a replica that is lost, are seen.
        cluster[0].ask::<()>(&["SET", "{0}k", "v"]).await.or(cluster[1].ask(&["SET", "{0}k", "v"]).await)
            .or(cluster[2].ask(&["SET", "{0}k", "v"]).await)?;
        let seen = keeper.look().await?.observed;
        assert_eq!(seen.views().map(|(_, v)| v.server.keys).max(), Some(1));
        let mut cluster = cluster;
        cluster.servers[5].kill9()?;
        assert_eq!(keeper.look().await?.observed.views().count(), 5);
        Ok(())
    }
}
