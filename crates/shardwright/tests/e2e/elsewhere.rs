//! A Redis replica goes on copying from the address that its primary has left, where only gossip told it the new one.

use std::cell::Cell;
use std::time::Duration;

use shardwright_testkit::namespace::Namespace;
use shardwright_testkit::skip::skipped;
use shardwright_testkit::{
    Cluster, Engine, Load, LoadOptions, Persistence, ServerBuilder, each_engine, until,
};
use shardwright_topology::Role;

use crate::rig::{Home, standing};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const LIMIT: Duration = Duration::from_secs(50);

/// The first primary is in a namespace, which reaches all others but its replica, the fourth, until that is let through.
async fn apart(engine: &Engine, namespace: &Namespace) -> Outcome<Cluster> {
    let next = Cell::new(0);
    let each = |builder: ServerBuilder| {
        let host = namespace.outside(next.replace(next.get() + 1));
        builder
            .host(&host)
            .config("protected-mode", "no")
            .persistence(Persistence::AofAlways)
    };
    let cluster = Cluster::formed(engine, 3, 1, each).await?;
    for n in [1, 2, 4, 5] {
        namespace.reaches(n)?;
    }
    // The engine itself would elect it.
    let set = ["CONFIG", "SET", "cluster-replica-no-failover", "yes"];
    cluster[3].ask::<()>(&set).await?;
    Ok(cluster)
}

/// The replica's table shows this of its primary.
async fn until_shown(cluster: &Cluster, id: &str, words: &[&str], not: &[&str]) -> Outcome<()> {
    let shown = || async {
        let view: String = cluster[3]
            .ask(&["CLUSTER", "NODES"])
            .await
            .map_err(|e| e.to_string())?;
        let row = view
            .lines()
            .find(|row| row.starts_with(id))
            .unwrap_or_default();
        let all = words.iter().all(|word| row.contains(word))
            && !not.iter().any(|word| row.contains(word));
        if all { Ok(()) } else { Err(view) }
    };
    until("its table shows the primary so", LIMIT, shown).await?;
    Ok(())
}

/// `announces`: whether the primary is told its new address. Otherwise its own row has the old one until somebody meets it
/// there.
async fn is_named_and_fixed(engine: &Engine, test: &str, announces: bool) -> Outcome<()> {
    let namespace = match Namespace::make() {
        Ok(namespace) => namespace,
        Err(why) => {
            skipped(test, &format!("no network namespace: {why}"));
            return Ok(());
        }
    };
    let home = Home::new()?;
    let mut cluster = apart(engine, &namespace).await?;
    let load = Load::start(&cluster.addresses(), LoadOptions::default());
    load.until_more(300, LIMIT).await?;
    let written = load.stop().await;
    let (id, old, new) = (
        cluster[0].id().await?,
        cluster[0].address(),
        namespace.inside(),
    );
    if announces {
        cluster[0].set_config("cluster-announce-ip", &new);
    }
    cluster[0].kill9()?;
    cluster[0].restart_in(&namespace)?;
    until_shown(&cluster, &id, &[&format!(" {new}:")], &[]).await?;
    // Now its replica reaches it as well, and so do clients of this machine.
    namespace.reaches(3)?;
    namespace.reaches(0)?;
    until_shown(
        &cluster,
        &id,
        &[&format!(" {new}:"), " connected"],
        &["fail"],
    )
    .await?;

    let (target, replica) = (cluster[1].address(), cluster[3].address());
    let from = format!("copies from {old}, which is not its primary's address");
    home.run(&["check", &target])
        .must(1, &["[ERR]", &from, &format!("shardwright fix {target}")]);
    // It has none of what was written since: nobody puts it in its primary's place.
    let more = Load::start(
        &cluster.addresses(),
        LoadOptions {
            prefix: "more".to_owned(),
            ..LoadOptions::default()
        },
    );
    more.until_more(300, LIMIT).await?;
    let more = more.stop().await;
    for (how, why) in [
        (&[][..], old.as_str()),
        (&["--force"], "not proved dead"),
        (&["--takeover"], "not proved dead"),
    ] {
        let words = [&["failover", &target, &replica], how].concat();
        home.run(&words).must(3, &[why]);
        assert_eq!(standing(&cluster[3]).await?.role, Role::Replica, "{how:?}");
    }
    home.run(&["fix", &target])
        .must(0, &["[OK] the cluster is healthy"]);
    assert_eq!(cluster[3].copies_from().await?, Some(new));
    assert_eq!(standing(&cluster[3]).await?.link_up, Some(true));
    for report in [&written, &more] {
        assert_eq!(
            report.lost(&cluster.addresses()).await?,
            [],
            "of {}",
            report.acked()
        );
    }
    Ok(())
}

each_engine! {
    [redis_7_0, redis_7_4]
    async fn a_replica_that_copies_from_an_address_of_the_past_is_named_and_fixed(engine) {
        let test = "a_replica_that_copies_from_an_address_of_the_past_is_named_and_fixed";
        is_named_and_fixed(&engine, test, true).await
    }
}

each_engine! {
    [redis_7_0, redis_7_4]
    async fn so_is_one_whose_primary_believes_to_be_at_its_old_address(engine) {
        let test = "so_is_one_whose_primary_believes_to_be_at_its_old_address";
        is_named_and_fixed(&engine, test, false).await
    }
}
