//! A node is named by a host name as well as by its address: `localhost`, as people type it.

use shardwright_testkit::{Cluster, Server, each_engine};
use shardwright_topology::Role;

use crate::rig::{Home, standing};

fn by_name(server: &Server) -> String {
    format!("localhost:{}", server.port())
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn a_node_is_named_by_localhost_as_the_cluster_is(engine) {
        let home = Home::new()?;
        let quick = || Server::builder(&engine).cluster().config("repl-diskless-sync-delay", "0").start();
        let cluster = Cluster::formed(&engine, 3, 1, |builder| builder).await?;
        let target = by_name(&cluster[1]);

        home.run(&["failover", &target, &by_name(&cluster[3])]).must(0, &["[OK]", "is the primary"]);
        assert_eq!(standing(&cluster[3]).await?.role, Role::Primary);
        home.run(&["failover", &target, &by_name(&cluster[3])]).must(0, &["is a primary already"]);

        let (from, to) = (by_name(&cluster[1]), by_name(&cluster[3]));
        home.run(&["reshard", &target, "--from", &from, "--to", &to, "--slots", "10", "--yes"])
            .must(0, &["moved 10 slots"]);
        let weights = format!("{to}=1,{from}=1");
        home.run(&["rebalance", &target, "--weights", &weights]).must(0, &["[OK]"]);

        let joins = quick()?;
        let of = cluster[1].id().await?;
        home.run(&["add-node", &target, &by_name(&joins), "--replica-of", &from]).must(0, &["has joined"]);
        assert_eq!(standing(&joins).await?.follows, Some(of));
        home.run(&["add-node", &target, &by_name(&joins)]).must(0, &["is a member already"]);

        home.run(&["remove-node", &target, &by_name(&joins)]).must(0, &["[OK]", "has left"]);
        home.run(&["remove-node", &target, &by_name(&joins)]).must(0, &["nothing to do", "no member"]);
        home.run(&["check", &target]).must(0, &["[OK] 6 nodes agree"]);

        let stranger = "localhost:1";
        home.run(&["failover", &target, stranger]).must(2, &["no node", stranger]);
        home.run(&["remove-node", &target, stranger]).must(2, &["no node", stranger]);
        Ok(())
    }
}
