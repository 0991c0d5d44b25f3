//! Two clusters that somebody lets meet by mistake (`CLUSTER MEET`), with one password for replication: the nodes of the other
//! are named, and ours forget them and are whole again.

use std::time::Duration;

use shardwright_testkit::load::Lost;
use shardwright_testkit::{Cluster, Engine, Report, Server, ServerBuilder, each_engine, until};

use crate::local::{Local, OK, Outcome};
use crate::rig::Running;

const LIMIT: Duration = Duration::from_secs(30);
/// Twice the node-timeout of the other cluster, after which its nodes introduce themselves again to whom they know.
const AGAIN_WITHIN: Duration = Duration::from_secs(10);

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
    until("ours list none of theirs", LIMIT, || async {
        let listed = listing_theirs(local, foreign).await;
        match listed.map_err(|e| e.to_string())? {
            Some(view) => Err(view),
            None => Ok(()),
        }
    })
    .await?;
    Ok(())
}

/// The view of a server of ours that lists one of theirs, if any does.
async fn listing_theirs(local: &Local, foreign: &Cluster) -> Outcome<Option<String>> {
    let mut theirs = Vec::new();
    for server in &foreign.servers {
        theirs.push(server.id().await?);
    }
    for index in 0..6 {
        let view = view_of(local, index).await?;
        if theirs.iter().any(|id| view.contains(id.as_str())) {
            return Ok(Some(view));
        }
    }
    Ok(None)
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

/// Does what `check` says: lets the nodes of the other cluster forget ours. Returns our ids.
async fn let_them_forget(local: &Local, foreign: &Cluster) -> Outcome<Vec<String>> {
    let mut ours = Vec::new();
    for index in 0..6 {
        let mut connection = local.administrator(index).await?;
        let mut id = redis::cmd("CLUSTER");
        id.arg("MYID");
        ours.push(id.query_async::<String>(&mut connection).await?);
    }
    for server in &foreign.servers {
        for id in &ours {
            // The others may have told it already to forget this one.
            let done = server.ask::<()>(&["CLUSTER", "FORGET", id]).await;
            if let Err(error) = done
                && !error.to_string().contains("Unknown node")
            {
                return Err(error.into());
            }
        }
    }
    Ok(ours)
}

/// Fails with its table where a server lists one of these nodes.
async fn lists_none_of(server: &Server, ids: &[String]) -> Result<(), String> {
    let nodes = server.ask::<String>(&["CLUSTER", "NODES"]).await;
    let nodes = nodes.map_err(|e| e.to_string())?;
    if ids.iter().any(|id| nodes.contains(id.as_str())) {
        return Err(nodes);
    }
    Ok(())
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
    async fn what_a_met_cluster_deleted_is_named_and_it_stays_away_once_it_forgot_ours(engine) {
        let local = Local::new(&engine, "")?;
        local.up(&[]).must(0, &[OK]);
        let written = local.write("before").await?;
        let foreign = another(&engine, &local, 30).await?;
        let mut watch = local.watch();
        let (lost, said) = met_and_parted(&local, &written, &foreign, &mut watch).await?;
        let named = said.contains("deleted the keys of slots that it lost");
        assert!(lost.is_empty() || named, "{} keys: {said}", lost.len());
        // One of ours that had not forgotten theirs yet would introduce itself to them again.
        until("neither lists the other", LIMIT, || async {
            let ours = let_them_forget(&local, &foreign).await.map_err(|e| e.to_string())?;
            until_parted(&local, &foreign).await.map_err(|e| e.to_string())?;
            for server in &foreign.servers {
                lists_none_of(server, &ours).await?;
            }
            Ok(())
        })
        .await?;
        local.until_healthy()?;
        let after = local.write("after").await?;
        let again = until("they come again", AGAIN_WITHIN, || async {
            match listing_theirs(&local, &foreign).await {
                Ok(Some(_)) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        assert!(again.is_err(), "{}", watch.said());
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
