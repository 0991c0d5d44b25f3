//! Clusters that others run, rebalanced by what their slots hold; and functions, which come before slots.

use shardwright_testkit::slots::tag_for;
use shardwright_testkit::{Cluster, Server, each_engine};

use crate::rig::Home;

const LIBRARY: &str = "#!lua name=lib\nredis.register_function('one', function() return 1 end)";

/// Writes so many keys to each of these slots.
async fn fill(
    server: &Server,
    slots: impl Iterator<Item = u16>,
    keys: u64,
) -> Result<(), shardwright_testkit::Error> {
    for slot in slots {
        for i in 0..keys {
            let key = format!("{{{}}}{i}", tag_for(slot));
            server
                .ask::<()>(&["SET", &key, "some value or other"])
                .await?;
        }
    }
    Ok(())
}

async fn keys(server: &Server) -> Result<u64, shardwright_testkit::Error> {
    server.ask(&["DBSIZE"]).await
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn shards_get_as_many_keys_by_the_fewest_slots(engine) {
        let home = Home::new()?;
        let cluster = Cluster::formed(&engine, 3, 0, |builder| builder).await?;
        let target = cluster[0].address();
        // 30 slots of 20 keys at one, 10 at each of the others.
        fill(&cluster[0], 100..130, 20).await?;
        fill(&cluster[1], 6_000..6_010, 20).await?;
        fill(&cluster[2], 12_000..12_010, 20).await?;
        let by = |what| vec!["rebalance", &target, "--by", what];
        home.run(&by("slots")).must(0, &["nothing to do"]);
        home.run(&[&by("keys")[..], &["--dry-run"]].concat()).must(0, &["move slots"]);
        assert_eq!(keys(&cluster[0]).await?, 600);
        // 1000 keys, 333 each, within 10 %: from 600 to 360 takes 12 slots.
        let threshold = [&by("keys")[..], &["--threshold", "10"]].concat();
        home.run(&threshold).must(0, &["moved 12 slots", "[OK] all shards have their part of the keys"]);
        for server in &cluster.servers {
            let keys = keys(server).await?;
            assert!((300..=366).contains(&keys), "{keys}");
        }
        home.run(&threshold).must(0, &["nothing to do: no shard is further than 10 % from its part of the keys"]);
        home.run(&[&by("memory")[..], &["--threshold", "60"]].concat()).must(0, &["nothing to do"]);

        // One slot that alone is too much is named, and stays.
        fill(&cluster[1], 6_000..6_001, 900).await?;
        home.run(&threshold).must(0, &["its slot 6000 alone has 900 keys"]);
        home.run(&threshold).must(0, &["its slot 6000 alone has 900 keys", "nothing to do"]);
        home.run(&["check", &target]).must(0, &["[OK]"]);
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn a_primary_gets_the_functions_before_its_first_slots(engine) {
        let home = Home::new()?;
        let cluster = Cluster::formed(&engine, 3, 0, |builder| builder).await?;
        let target = cluster[0].address();
        for server in &cluster.servers {
            server.ask::<String>(&["FUNCTION", "LOAD", LIBRARY]).await?;
        }
        let fourth = Server::builder(&engine).cluster().start()?;
        home.run(&["add-node", &target, &fourth.address(), "--primary"]).must(0, &["has joined"]);
        let all = ["rebalance", &target, "--use-empty-primaries"];
        home.run(&[&all[..], &["--dry-run"]].concat()).must(0, &["copy the functions of"]);
        home.run(&all).must(0, &["moved 4096 slots", "[OK]"]);
        let one: u64 = fourth.ask(&["FCALL", "one", "0"]).await?;
        assert_eq!(one, 1);
        Ok(())
    }
}
