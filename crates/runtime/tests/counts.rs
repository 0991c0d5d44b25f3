//! What a look counts: keys that a primary holds of slots that are not its own, and keys of slots that nobody owns.

use std::collections::BTreeMap;
use std::time::Duration;

use shardwright_engine::{Access, Client, Endpoint};
use shardwright_planner::{Desired, Limits};
use shardwright_runtime::{End, Guest, Keeper, Links};
use shardwright_testkit::slots::tag_for;
use shardwright_testkit::{Cluster, Engine, Server, each_engine};
use shardwright_topology::{NodeView, Observed, Seen, Slot};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const SOON: Duration = Duration::from_secs(20);
/// A slot of the first of three primaries.
const SLOT: u16 = 7;

async fn keeper(cluster: &Cluster) -> Outcome<Keeper<Guest>> {
    let endpoint: Endpoint = cluster[0].address().parse()?;
    let guest = Guest::of(&[endpoint]).await?;
    let links = Links::new(Access::default(), None);
    Ok(Keeper::new(
        guest,
        links,
        Desired::guest(),
        Limits::default(),
    ))
}

fn view<'a>(o: &'a Observed, server: &Server) -> Outcome<&'a NodeView> {
    let mut views = o.views();
    let found = views.find(|(s, _)| s.name.0 == server.address());
    Ok(found.ok_or("it is not heard")?.1)
}

/// A command to one server, on a connection that works on this database.
async fn ask_in(server: &Server, database: u32, words: &[&str]) -> Outcome<()> {
    let endpoint: Endpoint = server.address().parse()?;
    let client = Client::connect_to_database(&endpoint, &Access::default(), database).await?;
    let words: Vec<Vec<u8>> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
    client.call(&words).await?;
    Ok(())
}

/// A move that stops halfway: these keys of the slot go from the first primary to the second, and both ends are closed.
async fn leave_behind(cluster: &Cluster, database: u32, keys: &[&str]) -> Outcome<()> {
    let slot = SLOT.to_string();
    let (from, to) = (cluster[0].id().await?, cluster[1].id().await?);
    cluster[1]
        .ask::<()>(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from])
        .await?;
    cluster[0]
        .ask::<()>(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to])
        .await?;
    let (port, number) = (cluster[1].port().to_string(), database.to_string());
    let mut words = vec![
        "MIGRATE",
        cluster[1].host(),
        &port,
        "",
        &number,
        "5000",
        "KEYS",
    ];
    words.extend(keys);
    ask_in(&cluster[0], database, &words).await?;
    for end in [0, 1] {
        cluster[end]
            .ask::<()>(&["CLUSTER", "SETSLOT", &slot, "STABLE"])
            .await?;
    }
    Ok(())
}

async fn stray_keys_are_seen(engine: &Engine, databases: &[u32]) -> Outcome<()> {
    let count = (databases.iter().max().ok_or("no database")? + 1).to_string();
    let cluster = Cluster::formed(engine, 3, 1, |builder| match databases.len() {
        1 => builder,
        _ => builder.config("cluster-databases", &count),
    })
    .await?;
    let slot = Slot::new(SLOT.into())?;
    let tag = tag_for(SLOT);
    let keys: Vec<String> = (0..3).map(|n| format!("{{{tag}}}{n}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    for database in databases {
        for key in &keys {
            ask_in(&cluster[0], *database, &["SET", key, "v"]).await?;
        }
    }
    let mut seen = keeper(&cluster).await?;
    let before = seen.observe().await?;
    for primary in &cluster.servers[..3] {
        assert_eq!(
            view(&before, primary)?.stray_keys,
            Seen::Known(BTreeMap::new())
        );
    }
    let all = databases.len() as u64 * 3;
    assert_eq!(view(&before, &cluster[0])?.server.keys, all);

    for database in databases {
        leave_behind(&cluster, *database, &keys[..2]).await?;
    }
    // Another look of the same one may take it that nothing came for a while.
    let o = keeper(&cluster).await?.observe().await?;
    let stray = databases.len() as u64 * 2;
    assert_eq!(
        view(&o, &cluster[1])?.stray_keys,
        Seen::Known([(slot, stray)].into())
    );
    for other in [0, 2] {
        assert_eq!(
            view(&o, &cluster[other])?.stray_keys,
            Seen::Known(BTreeMap::new())
        );
    }
    assert!(
        matches!(view(&o, &cluster[3])?.stray_keys, Seen::Unknown(_)),
        "a replica copies"
    );

    strays_go_home(&cluster, databases, slot, &keys).await?;
    for database in databases {
        leave_behind(&cluster, *database, &keys[..2]).await?;
    }
    counted_without_an_owner(&cluster, slot, [Some(all - stray), Some(stray), None]).await
}

/// They go home. One that is there already stays where it is, and keeps no other.
async fn strays_go_home(
    cluster: &Cluster,
    databases: &[u32],
    slot: Slot,
    keys: &[&str],
) -> Outcome<()> {
    let all = databases.len() as u64 * 3;
    ask_in(&cluster[0], databases[0], &["SET", keys[0], "newer"]).await?;
    let mut fixing = keeper(cluster).await?;
    let End::Failed(report) = fixing.settle(SOON, |_| {}).await? else {
        return Err("a key at both ends is for a person".into());
    };
    let failed = report
        .outcomes
        .iter()
        .filter_map(|o| o.result.as_ref().err());
    let failed: Vec<String> = failed.map(ToString::to_string).collect();
    assert!(failed[0].contains(&format!("{:?}", keys[0])), "{failed:?}");
    let o = keeper(cluster).await?.observe().await?;
    assert_eq!(
        view(&o, &cluster[1])?.stray_keys,
        Seen::Known([(slot, 1)].into())
    );
    assert_eq!(view(&o, &cluster[0])?.server.keys, all);
    ask_in(&cluster[0], databases[0], &["DEL", keys[0]]).await?;
    let mut fixing = keeper(cluster).await?;
    let End::Settled(_) = fixing.settle(SOON, |_| {}).await? else {
        return Err("they are not carried".into());
    };
    let o = keeper(cluster).await?.observe().await?;
    assert_eq!(view(&o, &cluster[1])?.server.keys, 0);
    assert_eq!(view(&o, &cluster[0])?.server.keys, all);
    Ok(())
}

/// Where nobody owns a slot every primary says how many of its keys it has.
async fn counted_without_an_owner(
    cluster: &Cluster,
    slot: Slot,
    counts: [Option<u64>; 3],
) -> Outcome<()> {
    for server in &cluster.servers[..3] {
        server
            .ask::<()>(&["CLUSTER", "DELSLOTS", &SLOT.to_string()])
            .await?;
    }
    let o = keeper(cluster).await?.observe().await?;
    for (server, keys) in cluster.servers.iter().zip(counts) {
        let view = view(&o, server)?;
        assert_eq!(
            view.keys_in_slot.get(&slot),
            keys.as_ref(),
            "{}",
            server.address()
        );
    }
    Ok(())
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn keys_in_others_slots_are_counted(engine) {
        stray_keys_are_seen(&engine, &[0]).await
    }
}

each_engine! {
    [valkey_9_1]
    async fn keys_in_others_slots_are_counted_in_every_database(engine) {
        stray_keys_are_seen(&engine, &[0, 2]).await
    }
}
