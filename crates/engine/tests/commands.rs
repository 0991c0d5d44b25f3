//! Every typed command, on real servers.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use shardwright_engine::{
    ACL_RULES, Access, Client, Credentials, Endpoint, Engine, Error, Failover, Feature, Migrate,
    Migrated, RawView, Reset, Secret, SetSlot,
};
use shardwright_testkit::slots::tag_for;
use shardwright_testkit::{Cluster, Kind, Server, TestResult, each_engine, until};
use shardwright_topology::wire::Reply;
use shardwright_topology::{ConfigEpoch, Slot, SlotRange, SlotSet};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const SOON: Duration = Duration::from_secs(10);

async fn connect(server: &Server) -> Result<Client, Error> {
    Client::connect(
        &Endpoint::new(server.host(), server.port()),
        &Access::default(),
    )
    .await
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn range(first: u64, last: u64) -> SlotSet {
    SlotSet::from(SlotRange::new(first, last).expect("a range"))
}

/// Looks until an observation of the node is as wanted.
async fn until_seen(client: &Client, what: &str, right: impl Fn(&RawView) -> bool) -> TestResult {
    until(what, SOON, || async {
        let view = client.observe().await.map_err(|e| e.to_string())?;
        if right(&view) {
            Ok(())
        } else {
            Err(text(&view.cluster_nodes))
        }
    })
    .await?;
    Ok(())
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn a_cluster_is_formed_changed_and_left(engine) {
        let nodes = Cluster::start(&engine, 2, |b| b.config("repl-diskless-sync-delay", "0"))?;
        let (a, b) = (connect(&nodes[0]).await?, connect(&nodes[1]).await?);
        let (a_id, b_id) = (a.my_id().await?, b.my_id().await?);
        assert_eq!(a.ip(), LOCALHOST);

        a.set_config_epoch(ConfigEpoch(1)).await?;
        a.add_slots(&SlotSet::all()).await?;
        a.del_slots(&range(100, 200)).await?;
        let holes: SlotSet = [SlotRange::new(100, 150)?, SlotRange::new(152, 200)?].into_iter().collect();
        a.add_slots(&holes).await?;
        assert!(text(&a.cluster_nodes().await?).contains(" 0-150 152-16383"));
        a.add_slots(&range(151, 151)).await?;
        let error = a.add_slots(&range(1, 1)).await.expect_err("it is taken");
        assert!(error.to_string().contains("CLUSTER ADDSLOTSRANGE"), "{error}");

        a.meet_all(&[(LOCALHOST, nodes[1].port(), nodes[1].bus_port())]).await?;
        for client in [&a, &b] {
            until_seen(client, "both are known", |view| {
                let rows = text(&view.cluster_nodes);
                rows.lines().count() == 2 && !rows.contains("handshake")
            })
            .await?;
        }
        b.replicate(a_id).await?;
        until_seen(&b, "the replica is synced", |view| {
            text(&view.info).contains("master_link_status:up")
        })
        .await?;
        let Reply::List(role) = a.role().await? else { return Err("ROLE is a list".into()) };
        assert_eq!(role[0], Reply::Text(b"master".to_vec()));

        // A primary ignores the call for a switchover of a node that it does not see as its own
        // replica, and it learns that by gossip, or at once by being met.
        b.meet(LOCALHOST, nodes[0].port(), nodes[0].bus_port()).await?;
        for client in [&a, &b] {
            until_seen(client, "the cluster is ok and the role is known", |view| {
                text(&view.cluster_info).contains("cluster_state:ok")
                    && text(&view.cluster_nodes).contains("slave")
            })
            .await?;
        }
        b.failover(Failover::Switchover).await?;
        until_seen(&a, "the old primary follows", |view| text(&view.info).contains("role:slave"))
            .await?;
        assert!(matches!(b.cluster_shards().await?, Reply::List(_) | Reply::Map(_)));
        b.bump_epoch().await?;
        let view = b.observe().await?;
        assert_eq!(text(&view.my_id), b_id.to_string());
        assert!(text(&view.cluster_info).contains("cluster_current_epoch:"));

        a.reset(Reset::Hard).await?;
        assert_ne!(a.my_id().await?, a_id);
        b.forget(a_id).await?;
        assert_eq!(text(&b.cluster_nodes().await?).lines().count(), 1);
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn keys_of_a_slot_are_counted_listed_and_moved(engine) {
        let cluster = Cluster::formed(&engine, 3, 0, |builder| builder).await?;
        let (from, to) = (connect(&cluster[0]).await?, connect(&cluster[1]).await?);
        let (from_id, to_id) = (from.my_id().await?, to.my_id().await?);
        let slot = Slot::new(7)?;
        let key = |n: u32| format!("{{{}}}:{n}", tag_for(7));
        for n in 0..5 {
            cluster[0].ask::<()>(&["SET", &key(n), "v"]).await?;
        }
        assert_eq!(from.count_keys(slot).await?, 5);
        assert_eq!(from.count_keys_of(&[slot, Slot::new(8)?]).await?, [5, 0]);
        let keys = from.keys_in_slot(slot, 100).await?;
        assert_eq!(keys.len(), 5);

        to.set_slot(slot, SetSlot::ImportingFrom(from_id)).await?;
        from.set_slot(slot, SetSlot::MigratingTo(to_id)).await?;
        let there = Endpoint::new(cluster[1].host(), cluster[1].port());
        let limit = Duration::from_secs(1);
        let view = from.view().await?;
        assert_eq!(view.id, from_id);
        assert_eq!(view.keys_in_slot.into_iter().collect::<Vec<_>>(), [(slot, 5)]);
        assert_eq!(view.rows.len(), 3);
        let order = Migrate { to: &there, keys: &keys, replace: false, limit, credentials: None };
        assert_eq!(from.migrate(&order).await?, Migrated::Moved);
        assert_eq!(from.migrate(&order).await?, Migrated::NoKeys);
        to.set_slot(slot, SetSlot::Owner(to_id)).await?;
        from.set_slot(slot, SetSlot::Owner(to_id)).await?;
        assert_eq!(to.count_keys(slot).await?, 5);
        from.set_slot(slot, SetSlot::Stable).await?;
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_server_tells_what_it_can_do(engine) {
        let server = Server::builder(&engine).cluster().start()?;
        let can = connect(&server).await?.capabilities().await?;
        let kind = match engine.kind { Kind::Redis => Engine::Redis, Kind::Valkey => Engine::Valkey };
        assert_eq!(can.engine, kind);
        assert_eq!(can.version.to_string(), engine.version.to_string());
        assert!(can.has(Feature::AddSlotsRange) && can.has(Feature::ClusterShards));
        let valkey = |major| engine.kind == Kind::Valkey && engine.version.major >= major;
        assert_eq!(can.has(Feature::SlotStats), valkey(8));
        assert_eq!(can.has(Feature::MigrateSlots), valkey(9));
        assert!(!can.has(Feature::ClusterMigration));
        Ok(())
    }
}

const LIBRARY: &str = "#!lua name=lib\nredis.register_function('one', function() return 1 end)";

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn functions_are_copied_with_the_rights_of_our_user(engine) {
        let own = format!("user own on >own -@all {}", ACL_RULES.join(" "));
        let build = || Server::builder(&engine).cluster().acl(["user default on nopass ~* &* +@all", &own]).start();
        let (from, to) = (build()?, build()?);
        from.ask::<String>(&["FUNCTION", "LOAD", LIBRARY]).await?;
        let access = Access {
            credentials: Some(Credentials { user: Some("own".to_owned()), password: Secret::new("own") }),
            ..Access::default()
        };
        let client = |server: &Server| {
            let at = Endpoint::new(server.host(), server.port());
            let access = access.clone();
            async move { Client::connect(&at, &access).await }
        };
        let (source, target) = (client(&from).await?, client(&to).await?);
        let libraries = |client: &Client| {
            let client = client.clone();
            async move { Ok::<_, Error>(client.view().await?.server.libraries) }
        };
        assert_eq!(libraries(&target).await?, Some(0));
        let all = source.function_libraries().await?;
        let [library] = &all[..] else { panic!("{all:?}") };
        assert_eq!((library.name.as_str(), &library.code[..]), ("lib", LIBRARY.as_bytes()));
        target.function_load(&library.code).await?;
        target.function_load(&library.code).await?;
        assert_eq!(libraries(&target).await?, Some(1));
        let copy = target.function_libraries().await?;
        assert_eq!(copy[0].digest(), library.digest());
        // A trailing line is another code.
        target.function_load(&[&library.code[..], b"\n"].concat()).await?;
        assert_ne!(target.function_libraries().await?[0].digest(), library.digest());
        target.add_slots(&SlotSet::all()).await?;
        until("it serves", SOON, || async {
            let one: Result<u64, _> = to.ask(&["FCALL", "one", "0"]).await;
            one.map_err(|e| e.to_string()).map(|n| assert_eq!(n, 1))
        }).await?;
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn what_slots_hold_is_asked(engine) {
        let cluster = Cluster::formed(&engine, 3, 0, |builder| builder).await?;
        let client = connect(&cluster[0]).await?;
        let [hot, cold] = [7, 5_000].map(|n| Slot::new(n).expect("a slot"));
        for i in 0..30 {
            let slot = if i % 3 == 0 { cold } else { hot };
            let key = format!("{{{}}}{i}", tag_for(slot.number()));
            cluster[0].ask::<()>(&["SET", &key, "value"]).await?;
        }
        let slots = range(0, 5_000);
        let keys = client.keys_of_slots(&slots).await?;
        assert_eq!(keys.len(), 5_001);
        assert_eq!((keys[&hot], keys[&cold], keys.values().sum::<u64>()), (20, 10, 30));
        assert!(client.data_bytes().await? > Some(1_000));
        if let Some(memory) = client.memory_of_slots(&slots).await? {
            assert!(memory[&hot] > memory[&cold], "{memory:?}");
        }
        Ok(())
    }
}
