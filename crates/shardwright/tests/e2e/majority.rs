//! Too few primaries are reachable for a vote: that is named, and the word of a person brings slots back.

use std::time::Duration;

use shardwright_testkit::{Cluster, each_engine, until};
use shardwright_topology::Role;

use crate::rig::{Home, cli_check, standing};

const LIMIT: Duration = Duration::from_secs(60);

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_lost_majority_is_named_and_ends_by_a_persons_word(engine) {
        let home = Home::new()?;
        let cluster = Cluster::formed(&engine, 3, 1, |builder| builder).await?;
        let (target, replica) = (cluster[2].address(), cluster[3].address());
        let past = ["--command-timeout", "300", "failover", &target, &replica, "--takeover"];
        let stated = [&past[..], &["--i-know-the-primary-is-dead"]].concat();
        home.run(&stated).must(3, &["is not dead: it is reachable"]);
        home.run(&["failover", &target, &replica, "--i-know-the-primary-is-dead"]).must(2, &["--takeover"]);

        cluster[0].freeze()?;
        cluster[1].freeze()?;
        until("both are suspected by all that are reachable", LIMIT, || async {
            for server in &cluster.servers[2..] {
                let view: String = server.ask(&["CLUSTER", "NODES"]).await.map_err(|e| e.to_string())?;
                if view.matches("fail?").count() != 2 {
                    return Err(view);
                }
            }
            Ok(())
        }).await?;
        let checked = home.run(&["--command-timeout", "300", "check", &target])
            .must(1, &["no majority: 1 of 3 primaries is reachable"]);
        home.run(&["--command-timeout", "300", "status", &target])
            .must(1, &["no majority: 1 of 3 primaries is reachable", "shardwright check"]);
        home.run(&past).must(3, &["is not proved dead", "--i-know-the-primary-is-dead"]);

        // The command that is printed works as it is.
        let mut lines = checked.out.lines();
        let (_, command) = lines
            .find_map(|line| line.split_once("shardwright failover "))
            .ok_or_else(|| checked.out.clone())?;
        let words = ["--command-timeout", "300", "failover"].into_iter().chain(command.split(' '));
        let words: Vec<&str> = words.collect();
        // It does not wait for those that stay silent.
        home.run(&words).must(0, &["is the primary", "the cluster is not healthy yet"]);

        // Two of three are a majority again, and the engine does the rest.
        until("the other replica is elected", LIMIT, || async {
            for server in [&cluster[3], &cluster[4]] {
                let role = standing(server).await.map_err(|e| e.to_string())?.role;
                if role != Role::Primary {
                    return Err(format!("{} is {role:?}", server.address()));
                }
            }
            Ok(())
        }).await?;
        cluster[0].thaw()?;
        cluster[1].thaw()?;
        cluster.until_agreed().await?;
        home.run(&["fix", &target]).must(0, &["[OK]"]);
        home.run(&["check", &target]).must(0, &["[OK] 6 nodes agree"]);
        cli_check(&engine, &target, &[])?;
        Ok(())
    }
}
