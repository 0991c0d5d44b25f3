//! Nodes that join, leave and change roles.

use std::time::Duration;

use shardwright_testkit::{Cluster, Load, LoadOptions, Persistence, Server, each_engine};

use shardwright_topology::Role;

use crate::rig::{Home, cli_check, standing, state_of, states_of};

const LIMIT: Duration = Duration::from_secs(30);

async fn role(server: &Server) -> Result<Role, Box<dyn std::error::Error + Send + Sync>> {
    Ok(standing(server).await?.role)
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn nodes_join_and_leave(engine) {
        let home = Home::new()?;
        let cluster = Cluster::formed(&engine, 3, 1, |builder| builder).await?;
        let target = cluster[0].address();
        let quick = || Server::builder(&engine).cluster().config("repl-diskless-sync-delay", "0").start();

        let replica = quick()?;
        let before = (states_of(&cluster.servers).await?, state_of(&replica).await?);
        let second = cluster[1].id().await?;
        let join = ["add-node", &target, &replica.address(), "--replica-of", &second[..8]];
        home.run(&[&join[..], &["--dry-run"]].concat()).must(0, &["because"]);
        assert_eq!((states_of(&cluster.servers).await?, state_of(&replica).await?), before, "a dry run changes nothing");
        home.run(&join).must(0, &["[OK]", "has joined"]);
        assert_eq!(standing(&replica).await?.follows.as_deref(), Some(second.as_str()));
        home.run(&["check", &target]).must(0, &["[OK] 7 nodes agree"]);
        home.run(&join[..3]).must(0, &["nothing to do", "is a member already"]);
        let (first, node) = (cluster[0].id().await?, replica.address());
        let moved = ["add-node", &target, &node, "--replica-of", &first];
        home.run(&moved).must(3, &["is a replica of", "a member stays what it is"]);
        home.run(&["add-node", &target, &node, "--primary"]).must(3, &["is a replica of"]);
        home.run(&["add-node", &target, &cluster[1].address()]).must(3, &["is a primary with 5462 slots already"]);
        assert_eq!(standing(&replica).await?.follows.as_deref(), Some(second.as_str()));

        let empty = quick()?;
        home.run(&["add-node", &target, &empty.address(), "--primary"]).must(0, &["has joined"]);
        assert_eq!(role(&empty).await?, Role::Primary);
        home.run(&["check", &target]).must(0, &["[OK] 8 nodes agree", "owns no slots", "shardwright remove-node"]);

        // A shard that is to be has its replica before its slots; in redis-cli's order of words it is said what is meant.
        let beside = quick()?;
        let (new, of) = (beside.address(), empty.id().await?);
        home.run(&["add-node", &new, &target, "--replica-of", &of])
            .must(2, &["the target comes first", &format!("shardwright add-node {target} {new}")]);
        home.run(&["add-node", &target, &new, "--replica-of", &of]).must(0, &["has joined"]);
        assert_eq!(standing(&beside).await?.follows, Some(of));
        home.run(&["remove-node", &target, &empty.address()]).must(3, &["can't leave", "replica"]);
        home.run(&["remove-node", &target, &new]).must(0, &["has left"]);

        let third = quick()?;
        home.run(&["add-node", &target, &third.address()]).must(0, &["has joined"]);
        assert_eq!(role(&third).await?, Role::Replica);
        assert_ne!(standing(&third).await?.follows, Some(second), "it goes where replicas are fewest");
        cli_check(&engine, &target, &[])?;

        for (server, name) in [(&empty, empty.address()), (&replica, replica.id().await?), (&third, third.id().await?[..10].to_owned())] {
            let id = server.id().await?;
            home.run(&["remove-node", &target, &name]).must(0, &["[OK]", "has left"]);
            // The beginning of an id may be mistyped: only a whole name is known to have left.
            let again = home.run(&["remove-node", &target, &name]);
            if name.len() > 10 {
                again.must(0, &["nothing to do", "no member"]);
            } else {
                again.must(2, &["no node"]);
            }
            let gone = |view: &str| !view.contains(&id);
            cluster.until_views("it is forgotten", gone).await?;
            let alone: String = server.ask(&["CLUSTER", "NODES"]).await?;
            assert_eq!(alone.lines().count(), 1, "it forgot everyone: {alone}");
            assert_ne!(server.id().await?, id, "it is new");
        }
        home.run(&["check", &target]).must(0, &["[OK] 6 nodes agree"]);
        cli_check(&engine, &target, &[])?;
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn a_switchover_under_load_loses_nothing(engine) {
        let home = Home::new()?;
        let cluster = Cluster::formed(&engine, 3, 1, |builder| builder).await?;
        let target = cluster[1].address();
        let load = Load::start(&cluster.addresses(), LoadOptions::default());
        load.until_more(300, LIMIT).await?;
        let replica = cluster[3].address();
        home.run(&["failover", &target, &replica, "--dry-run"]).must(0, &["because"]);
        assert_eq!(role(&cluster[3]).await?, Role::Replica, "a dry run changes nothing");
        home.run(&["failover", &target, &replica]).must(0, &["[OK]", "is the primary"]);
        load.until_more(300, LIMIT).await?;
        home.run(&["failover", &target, &cluster[0].id().await?[..12]]).must(0, &["is the primary"]);
        home.run(&["failover", &target, &cluster[0].address()]).must(0, &["is a primary already"]);
        load.until_more(300, LIMIT).await?;
        let report = load.stop().await;
        assert_eq!(report.lost(&cluster.addresses()).await?, [], "of {}", report.acked());
        assert_eq!((role(&cluster[0]).await?, role(&cluster[3]).await?), (Role::Primary, Role::Replica));
        home.run(&["check", &target]).must(0, &["[OK] 6 nodes agree"]);
        cli_check(&engine, &target, &[])?;
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn force_passes_a_dead_primary_and_a_living_one_never(engine) {
        let home = Home::new()?;
        let mut cluster = Cluster::formed(&engine, 3, 1, |builder| builder.persistence(Persistence::Aof)).await?;
        let (target, replica) = (cluster[1].address(), cluster[3].address());
        home.run(&["failover", &target, &replica, "--force"]).must(3, &["not proved dead"]);
        // Frozen is not dead: nobody can tell what it holds.
        cluster[0].freeze()?;
        let frozen = home.run(&["--command-timeout", "300", "failover", &target, &replica, "--force"]);
        cluster[0].thaw()?;
        frozen.must(3, &["not proved dead"]);

        cluster[0].kill9()?;
        // Done, though the dead one stays silent: at once, and said.
        home.run(&["failover", &target, &replica, "--force", "--timeout", "15"])
            .must(0, &["[OK]", "is the primary", "warning", &cluster[0].address()]);
        assert_eq!(role(&cluster[3]).await?, Role::Primary);
        cluster[0].restart()?;
        home.run(&["fix", &target]).must(0, &["[OK]"]);
        home.run(&["check", &target]).must(0, &["[OK] 6 nodes agree"]);
        Ok(())
    }
}
