//! Two clusters that somebody lets meet by mistake (`CLUSTER MEET`), with one password for replication: the nodes of the other
//! are named, and ours forget them and are whole again.

use std::time::Duration;

use shardwright_testkit::load::Lost;
use shardwright_testkit::{Cluster, Engine, Report, Server, ServerBuilder, each_engine, until};

use crate::local::{Local, OK, Outcome};
use crate::rig::Running;

const LIMIT: Duration = Duration::from_secs(30);

/// A cluster of the same shape with greater epochs, whose primaries begin a copy after so many seconds, and which knows our
/// user of replication.
async fn another(engine: &Engine, local: &Local, copies_after_s: u32) -> Outcome<Cluster> {
    let password = local.password("replication")?;
    let password = password.trim();
    let users = [
        "user default on nopass ~* &* +@all".to_owned(),
        format!("user replication on >{password} +psync +replconf +ping"),
    ];
    let delay = copies_after_s.to_string();
    let adjust = |builder: ServerBuilder| {
        builder
            .acl(users.clone())
            .config("repl-diskless-sync-delay", &delay)
    };
    Ok(Cluster::formed_above(engine, 3, 0, 100, adjust).await?)
}

/// One of ours is told of one of theirs.
async fn meet(local: &Local, foreign: &Cluster) -> Outcome<()> {
    let mut connection = local.administrator(0).await?;
    let mut command = redis::cmd("CLUSTER");
    let (host, port) = (foreign[0].host(), foreign[0].port());
    command.arg("MEET").arg(host).arg(port);
    Ok(command.query_async(&mut connection).await?)
}

/// Waits until no server of ours lists one of theirs.
async fn until_parted(local: &Local, foreign: &Cluster) -> Outcome<()> {
    let mut theirs = Vec::new();
    for server in &foreign.servers {
        theirs.push(server.id().await?);
    }
    until("ours list none of theirs", LIMIT, || async {
        for index in 0..6 {
            let view = view_of(local, index).await.map_err(|e| e.to_string())?;
            if theirs.iter().any(|id| view.contains(id.as_str())) {
                return Err(view);
            }
        }
        Ok(())
    })
    .await?;
    Ok(())
}

/// What a server of ours says of all nodes.
async fn view_of(local: &Local, index: usize) -> Outcome<String> {
    let mut connection = local.administrator(index).await?;
    let mut nodes = redis::cmd("CLUSTER");
    nodes.arg("NODES");
    Ok(nodes.query_async(&mut connection).await?)
}

/// Another cluster, whose copies begin late, is met while clients write, and parted from. Returns which of the keys written
/// before are lost, and what the watch said.
async fn met_and_parted(
    local: &Local,
    written: &Report,
    foreign: &Cluster,
    watch: &mut Running,
) -> Outcome<(Vec<Lost>, String)> {
    // What clients write to the other cluster meanwhile is not ours: they are sent there by its greater epochs.
    let load = local.load("during")?;
    load.until_more(100, LIMIT).await?;
    meet(local, foreign).await?;
    watch.until_said("nodes of another cluster were met (CLUSTER MEET)", LIMIT);
    until_parted(local, foreign).await?;
    local.until_healthy()?;
    load.stop().await;
    let lost = written.lost(&local.ports.addresses()).await?;
    let said = watch.said();
    for never in ["the last copy of", "from dead", "was replaced"] {
        assert!(!said.contains(never), "{never:?}: {said}");
    }
    Ok((lost, said))
}

/// Fails with its table where a server says that it owns slots.
async fn owns_nothing(server: &Server) -> Result<(), String> {
    let nodes = server.ask::<String>(&["CLUSTER", "NODES"]).await;
    let nodes = nodes.map_err(|e| e.to_string())?;
    let own = nodes.lines().find(|row| row.contains("myself"));
    match own {
        Some(own) if own.trim_end().ends_with("connected") => Ok(()),
        _ => Err(nodes),
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0]
    async fn a_met_cluster_is_named_and_forgotten_and_no_key_is_lost(engine) {
        let local = Local::new(&engine, "")?;
        local.up(&[]).must(0, &[OK]);
        let written = local.write("before").await?;
        let foreign = another(&engine, &local, 30).await?;
        let mut watch = local.watch();
        let (lost, _) = met_and_parted(&local, &written, &foreign, &mut watch).await?;
        assert_eq!(lost, []);
        watch.signal("INT", true);
        watch.end().must(0, &["the watch has ended"]);
        Ok(())
    }
}

each_engine! {
    // It deletes the keys of slots that are taken from it at once, and its nodes introduce themselves again.
    [valkey_9_1]
    async fn what_a_met_cluster_deleted_is_named_and_no_more_is_lost_when_it_comes_again(engine) {
        let local = Local::new(&engine, "")?;
        local.up(&[]).must(0, &[OK]);
        let written = local.write("before").await?;
        let foreign = another(&engine, &local, 30).await?;
        let mut watch = local.watch();
        let (lost, said) = met_and_parted(&local, &written, &foreign, &mut watch).await?;
        let named = said.contains("deleted the keys of slots that it lost");
        assert!(lost.is_empty() || named, "{} keys: {said}", lost.len());
        let after = local.write("after").await?;
        until("they have heard of our greater epochs", LIMIT, || async {
            for server in &foreign.servers {
                owns_nothing(server).await?;
            }
            Ok(())
        })
        .await?;
        local.until_healthy()?;
        local.all_there(&after).await?;
        watch.signal("INT", true);
        watch.end().must(0, &["the watch has ended"]);
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_met_cluster_that_copies_at_once_is_parted_from_and_what_it_cost_is_said(engine) {
        let local = Local::new(&engine, "")?;
        local.up(&[]).must(0, &[OK]);
        let written = local.write("before").await?;
        let foreign = another(&engine, &local, 0).await?;
        let mut watch = local.watch();
        meet(&local, &foreign).await?;
        watch.until_said("nodes of another cluster were met (CLUSTER MEET)", LIMIT);
        until_parted(&local, &foreign).await?;
        local.until_healthy()?;
        // The engine copies faster than anybody looks: what that cost is never silent.
        let lost = written.lost(&local.ports.addresses()).await?;
        let said = watch.said();
        let named = ["was replaced by that of", "deleted the keys of slots that it lost"];
        let told = named.iter().any(|words| said.contains(words));
        assert!(lost.is_empty() || told, "{} keys: {said}", lost.len());
        watch.signal("INT", true);
        watch.end().must(0, &["the watch has ended"]);
        Ok(())
    }
}
