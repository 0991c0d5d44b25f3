//! Shared steps and looks.

use std::io::Write;
use std::time::Duration;

use shardwright_testkit::{Cluster, Engine, Error, Server, until};

/// Far beyond what any wait of these tests takes when the fact holds.
pub(crate) const SOON: Duration = Duration::from_secs(15);
/// What happens "at once" happens within this, also on a busy machine.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(1);

/// Appends a measured time to the file named by `SHARDWRIGHT_FACTS`.
pub(crate) fn measured(fact: &str, engine: &Engine, took: Duration) {
    let ms = took.as_secs_f64() * 1000.0;
    append(fact, engine, &format!("{ms:.1} ms"));
}

/// The same of a number.
pub(crate) fn counted(fact: &str, engine: &Engine, count: u64) {
    append(fact, engine, &count.to_string());
}

fn append(fact: &str, engine: &Engine, figure: &str) {
    if let Some(path) = std::env::var_os("SHARDWRIGHT_FACTS") {
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .expect("SHARDWRIGHT_FACTS names a file that can be written");
        writeln!(file, "{fact}\t{}\t{figure}", engine.name).expect("a line can be written");
    }
}

/// The role word of a node, from its own `INFO`.
pub(crate) async fn role(server: &Server) -> Result<String, Error> {
    let role = server.field(&["INFO", "replication"], "role").await?;
    Ok(role.unwrap_or_else(|| "?".to_owned()))
}

/// Waits until the node acts as a primary, or does so no more.
pub(crate) async fn until_role(server: &Server, wanted: &str) -> Result<Duration, Error> {
    let ((), took) = until(&format!("role {wanted}"), SOON, || async {
        let seen = role(server).await.map_err(|e| e.to_string())?;
        if seen == wanted { Ok(()) } else { Err(seen) }
    })
    .await?;
    Ok(took)
}

/// For `time`, the node never acts in that role.
pub(crate) async fn never_role(
    server: &Server,
    unwanted: &str,
    time: Duration,
) -> Result<(), Error> {
    let seen = until("the unwanted role", time, || async {
        let seen = role(server).await.map_err(|e| e.to_string())?;
        if seen == unwanted { Ok(()) } else { Err(seen) }
    })
    .await;
    match seen {
        Err(Error::TooLate { .. }) => Ok(()),
        Err(error) => Err(error),
        Ok(((), after)) => panic!("{} became {unwanted} after {after:?}", server.address()),
    }
}

/// The row of node `id` as `viewer` sees it; empty where it lists no such node.
pub(crate) async fn row(viewer: &Server, id: &str) -> Result<String, Error> {
    let view: String = viewer.ask(&["CLUSTER", "NODES"]).await?;
    Ok(view
        .lines()
        .find(|row| row.starts_with(id))
        .unwrap_or_default()
        .to_owned())
}

/// Whether `viewer` sees node `id` as a replica.
pub(crate) async fn seen_as_replica(viewer: &Server, id: &str) -> Result<bool, Error> {
    Ok(row(viewer, id).await?.contains("slave"))
}

/// Waits until the replica has its first full copy.
pub(crate) async fn until_synced(replica: &Server) -> Result<Duration, Error> {
    let ((), took) = until("the replica is synced", SOON, || async {
        let link = replica
            .field(&["INFO", "replication"], "master_link_status")
            .await;
        match link {
            Ok(Some(link)) if link == "up" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    Ok(took)
}

/// What the server says against a command.
pub(crate) async fn refusal(server: &Server, words: &[&str]) -> String {
    match server.ask::<redis::Value>(words).await {
        Ok(value) => format!("no refusal but {value:?}"),
        Err(Error::Redis { source, .. }) => {
            format!(
                "{} {}",
                source.code().unwrap_or("?"),
                source.detail().unwrap_or("?")
            )
        }
        Err(other) => format!("no refusal but {other}"),
    }
}

/// Three primaries and, as server 3, a synced replica of server 0 that servers 0, 1 and 2
/// still see as a primary: views learn the role by gossip, which takes up to seconds.
pub(crate) async fn role_not_yet_known(engine: &Engine) -> Result<Cluster, Error> {
    for _ in 0..8 {
        let mut cluster = Cluster::start(engine, 4, |builder| {
            builder
                .config("repl-diskless-sync-delay", "0")
                .config("cluster-node-timeout", "5000")
        })?;
        let spare = cluster.servers.pop().expect("four were started");
        cluster.form(3).await?;
        cluster.servers.push(spare);
        cluster.meet_all().await?;
        cluster.until_known().await?;
        let primary = cluster[0].id().await?;
        cluster[3]
            .ask::<()>(&["CLUSTER", "REPLICATE", &primary])
            .await?;
        until_synced(&cluster[3]).await?;
        let id = cluster[3].id().await?;
        let mut known = false;
        for viewer in 0..3 {
            known |= seen_as_replica(&cluster[viewer], &id).await?;
        }
        if !known {
            return Ok(cluster);
        }
    }
    Err(Error::TooLate {
        what: "a role that is not yet known".to_owned(),
        waited: Duration::ZERO,
        last: "in 8 tries gossip was always faster".to_owned(),
    })
}

/// Two primaries and, as server 2, a new replica of server 0 whose own epoch was greater than its primary's. Server 1
/// reads its greeting as a primary after its first word as a replica: it stood still while both came, and what comes by
/// a link that it has yet to accept, it reads last. A link on which nobody answers is given up after half of the
/// node-timeout, with all that came by it: it must outlast the standing still.
pub(crate) async fn replica_heard_in_the_wrong_order(engine: &Engine) -> Result<Cluster, Error> {
    let mut cluster = Cluster::start(engine, 3, |builder| {
        builder.config("cluster-node-timeout", "60000")
    })?;
    let spare = cluster.servers.pop().expect("three were started");
    cluster.form(2).await?;
    spare
        .ask::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", "9"])
        .await?;
    cluster.servers.push(spare);
    cluster.meet_all().await?;
    cluster.until_known().await?;
    let (primary, id) = (cluster[0].id().await?, cluster[2].id().await?);
    let greetings = || async {
        let key = "cluster_stats_messages_meet_sent";
        cluster[2].field(&["CLUSTER", "INFO"], key).await
    };
    let before = greetings().await?;
    cluster[1].freeze()?;
    greet(&cluster, 2, 1).await?;
    until("the greeting is sent", SOON, || async {
        match greetings().await {
            Ok(now) if now != before => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    cluster[2]
        .ask::<()>(&["CLUSTER", "REPLICATE", &primary])
        .await?;
    until("the role is told", SOON, || async {
        match seen_as_replica(&cluster[0], &id).await {
            Ok(true) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    cluster[1].thaw()?;
    Ok(cluster)
}

/// One server meets another.
pub(crate) async fn greet(cluster: &Cluster, from: usize, to: usize) -> Result<(), Error> {
    let (host, port) = (cluster[to].host(), cluster[to].port().to_string());
    cluster[from].ask(&["CLUSTER", "MEET", host, &port]).await
}
