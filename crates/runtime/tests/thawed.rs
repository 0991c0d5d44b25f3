//! A server that was frozen is looked at as soon as it answers again.

use std::time::Duration;

use shardwright_engine::{Access, Endpoint};
use shardwright_planner::{Desired, Limits};
use shardwright_runtime::{End, Guest, Keeper, Links};
use shardwright_testkit::{Cluster, each_engine};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_pass_begins_when_a_server_goes_on(engine) {
        // With a node-timeout at which nothing else happens meanwhile.
        let cluster = Cluster::formed(&engine, 3, 0, |builder| builder.config("cluster-node-timeout", "60000")).await?;
        let endpoint: Endpoint = cluster[0].address().parse()?;
        let guest = Guest::of(&[endpoint]).await?;
        let links = Links::new(Access::default(), None);
        let mut keeper = Keeper::new(guest, links, Desired::guest(), Limits::default());
        let End::Settled(_) = keeper.settle(SOON, |_| {}).await? else {
            return Err("it does not converge".into());
        };
        cluster[1].freeze()?;
        for _ in 0..2 {
            assert_eq!(keeper.look().await?.observed.views().count(), 2);
        }
        // Longer than a question may take.
        let early = timeout(Duration::from_secs(3), keeper.links().woken()).await;
        assert!(early.is_err(), "nothing wakes it while the server stands still");
        cluster[1].thaw()?;
        timeout(SOON, keeper.links().woken()).await?;
        assert_eq!(keeper.look().await?.observed.views().count(), 3);
        Ok(())
    }
}
