//! Addresses that change, are stale, or belong to strangers; and forgetting.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use shardwright_testkit::namespace::Namespace;
use shardwright_testkit::skip::skipped;
use shardwright_testkit::{Cluster, Kind, Server, ServerBuilder, each_engine, until};

use crate::scene::{AT_ONCE, SOON, measured, row, until_synced};

/// Everything `look` says stays true for `time`.
async fn stays<F, Fut>(time: Duration, look: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<bool, shardwright_testkit::Error>>,
{
    let begun = Instant::now();
    let ended = until("it changes", SOON, || async {
        match look().await {
            Ok(true) if begun.elapsed() > time => Ok(true),
            Ok(true) => Err("unchanged".to_owned()),
            Ok(false) => Ok(false),
            Err(error) => Err(error.to_string()),
        }
    })
    .await;
    let (unchanged, after) = ended.expect("looks are answered");
    assert!(unchanged, "it changed after {after:?}");
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn fact_meet_of_known_id_at_new_address_repairs_it(engine) {
        let mut cluster = Cluster::formed(&engine, 3, 0, |builder| builder).await?;
        let mut ids = Vec::new();
        for server in &cluster.servers {
            ids.push(server.id().await?);
        }
        cluster.servers.iter_mut().try_for_each(Server::kill9)?;
        cluster.servers.iter_mut().try_for_each(Server::restart_at_new_port)?;
        // By themselves they look for each other at the old addresses for ever.
        stays(Duration::from_millis(1500), || async {
            // Whether a link is up is no sign: one that is being dialled is shown as connected for a moment.
            let view: String = cluster[0].ask(&["CLUSTER", "NODES"]).await?;
            Ok(cluster.servers[1..].iter().all(|s| !view.contains(&format!(":{}@", s.port()))))
        })
        .await;

        let begun = Instant::now();
        cluster.meet_all().await?;
        let new: Vec<_> = cluster.servers.iter().map(|s| format!(":{}@", s.port())).collect();
        cluster.until_views("every row has the new address", |view| {
            ids.iter().zip(&new).all(|(id, new)| {
                view.lines().any(|row| row.starts_with(id.as_str()) && row.contains(new.as_str()))
            })
        })
        .await?;
        let rows = begun.elapsed();
        cluster.until_ok().await?;
        let ok = begun.elapsed();
        measured("rows right after MEET at new addresses", &engine, rows);
        measured("cluster_state:ok after MEET at new addresses", &engine, ok);
        assert!(rows < AT_ONCE, "{rows:?}");
        assert!(ok < Duration::from_secs(5), "{ok:?}");
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn fact_stale_announce_ip_is_not_repaired_by_meet(engine) {
        let cluster = Cluster::start(&engine, 2, |builder| builder)?;
        // Server 1 lives at 127.0.0.1 and says that it lives at 127.0.0.9.
        cluster[1].ask::<()>(&["CONFIG", "SET", "cluster-announce-ip", "127.0.0.9"]).await?;
        cluster.meet_all().await?;
        let id = cluster[1].id().await?;
        let stale = || async {
            let row = row(&cluster[0], &id).await?;
            Ok::<_, shardwright_testkit::Error>(row.contains("127.0.0.9:"))
        };
        until("the stale address has arrived", SOON, || async {
            match stale().await {
                Ok(true) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        cluster.meet_all().await?;
        stays(Duration::from_millis(1500), stale).await;
        cluster[1].ask::<()>(&["CONFIG", "SET", "cluster-announce-ip", "127.0.0.1"]).await?;
        cluster.meet_all().await?;
        until("the right address has arrived", SOON, || async {
            match row(&cluster[0], &id).await {
                Ok(row) if row.contains(" 127.0.0.1:") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn fact_blind_meet_merges_clusters(engine) {
        let one = Cluster::start(&engine, 1, |builder| builder)?;
        let other = Cluster::start(&engine, 1, |builder| builder)?;
        for (cluster, epoch) in [(&one, "1"), (&other, "2")] {
            cluster[0].ask::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", epoch]).await?;
            cluster[0].ask::<()>(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await?;
        }
        let port = other[0].port().to_string();
        one[0].ask::<()>(&["CLUSTER", "MEET", other[0].host(), &port]).await?;
        // The greater epoch has all slots now, also in the view of the other one.
        let id = other[0].id().await?;
        until("the two have become one", SOON, || async {
            match row(&one[0], &id).await {
                Ok(row) if row.ends_with(" 0-16383") => Ok(()),
                seen => Err(format!("{seen:?}")),
            }
        })
        .await?;
        let own: String = row(&one[0], &one[0].id().await?).await?;
        assert!(!own.contains("0-16383"), "{own}");
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn fact_forget_must_reach_all_within_60s(engine) {
        let mut cluster = Cluster::formed(&engine, 3, 1, |builder| builder).await?;
        let gone = cluster[5].id().await?;
        cluster[5].kill9()?;
        cluster[0].ask::<()>(&["CLUSTER", "FORGET", &gone]).await?;
        let elsewhere = || async {
            let mut knowing = 0;
            for server in &cluster.servers[1..5] {
                knowing += usize::from(!row(server, &gone).await?.is_empty());
            }
            Ok::<_, shardwright_testkit::Error>(knowing)
        };
        if engine.kind == Kind::Redis {
            // Its block list keeps the others' gossip out, for 60 s; the others know it on.
            // (That it comes back after 60 s takes too long to wait for here.)
            stays(Duration::from_secs(3), || async {
                Ok(row(&cluster[0], &gone).await?.is_empty() && elsewhere().await? == 4)
            })
            .await;
            for server in &cluster.servers[1..5] {
                server.ask::<()>(&["CLUSTER", "FORGET", &gone]).await?;
            }
        }
        // Valkey passes the word on by itself.
        let ((), took) = until("it is forgotten everywhere", SOON, || async {
            match elsewhere().await {
                Ok(0) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        measured("forgotten everywhere after", &engine, took);
        stays(Duration::from_secs(1), || async {
            Ok(row(&cluster[0], &gone).await?.is_empty() && elsewhere().await? == 0)
        })
        .await;
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn fact_forget_is_refused_for_itself_and_its_primary(engine) {
        let cluster = Cluster::formed(&engine, 3, 1, |builder| builder).await?;
        let (own, primary) = (cluster[3].id().await?, cluster[0].id().await?);
        let said = crate::scene::refusal(&cluster[3], &["CLUSTER", "FORGET", &own]).await;
        assert!(said.contains("forget myself"), "{said}");
        let said = crate::scene::refusal(&cluster[3], &["CLUSTER", "FORGET", &primary]).await;
        assert!(said.contains("Can't forget my master"), "{said}");
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn fact_state_ok_is_believed_before_anyone_is_reached(engine) {
        let mut cluster = Cluster::formed(&engine, 3, 0, |builder| builder).await?;
        cluster.servers.iter_mut().try_for_each(Server::kill9)?;
        cluster[0].restart()?;
        // Alone of three, it says ok after the writable delay, until the node timeout is over.
        until("it says ok although it is alone", SOON, || async {
            let server = &cluster[0];
            match server.field(&["CLUSTER", "INFO"], "cluster_state").await {
                Ok(Some(state)) if state == "ok" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        let view: String = cluster[0].ask(&["CLUSTER", "NODES"]).await?;
        assert_eq!(view.matches(" disconnected").count(), 2, "{view}");
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn fact_replica_keeps_copying_from_the_address_that_gossip_replaced(engine) {
        let namespace = match Namespace::make() {
            Ok(namespace) => namespace,
            Err(why) => {
                let fact = "fact_replica_keeps_copying_from_the_address_that_gossip_replaced";
                skipped(fact, &format!("no network namespace: {why}"));
                return Ok(());
            }
        };
        // The primary comes back at an address from where it reaches all but its replica, for a while.
        let next = Cell::new(0);
        let each = |builder: ServerBuilder| {
            let host = namespace.outside(next.replace(next.get() + 1));
            builder.host(&host).config("protected-mode", "no")
        };
        let mut cluster = Cluster::formed(&engine, 3, 1, each).await?;
        let (id, old, new) = (cluster[0].id().await?, namespace.outside(0), namespace.inside());
        for n in [1, 2, 4, 5] {
            namespace.reaches(n)?;
        }
        cluster[3].ask::<()>(&["CONFIG", "SET", "cluster-replica-no-failover", "yes"]).await?;
        cluster[0].kill9()?;
        cluster[0].restart_in(&namespace)?;
        let shows = |what: String, well: bool| {
            let (replica, id) = (&cluster[3], &id);
            async move {
                until("its replica's table shows the primary so", 2 * SOON, || async {
                    let row = row(replica, id).await.map_err(|e| e.to_string())?;
                    let is_well = !row.contains("fail") && row.contains(" connected");
                    if row.contains(&what) && (!well || is_well) { Ok(()) } else { Err(row) }
                })
                .await
            }
        };
        shows(format!(" {new}:"), false).await?;
        namespace.reaches(3)?;
        shows(format!(" {new}:"), true).await?;
        let copies_from = async |host: &str| {
            until("where it copies from", SOON, || async {
                let from = cluster[3].field(&["INFO", "replication"], "master_host").await;
                match from {
                    Ok(Some(from)) if from == host => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            })
            .await
        };
        if engine.kind == Kind::Redis {
            stays(Duration::from_secs(10), || async {
                let info: String = cluster[3].ask(&["INFO", "replication"]).await?;
                Ok(info.contains(&format!("master_host:{old}\r")) && info.contains("master_link_status:down"))
            })
            .await;
            cluster[3].ask::<()>(&["CLUSTER", "REPLICATE", &id]).await?;
        }
        copies_from(&new).await?;
        until_synced(&cluster[3]).await?;
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn fact_two_processes_with_one_id_take_each_others_links(engine) {
        let cluster = Cluster::formed(&engine, 3, 0, |builder| builder).await?;
        let (original, other) = (&cluster[0], &cluster[1]);
        let id = original.id().await?;
        let link = || async {
            let links: Vec<BTreeMap<String, String>> = other.ask(&["CLUSTER", "LINKS"]).await?;
            let mut of_it = links.iter().filter(|l| l["node"] == id && l["direction"] == "from");
            Ok::<_, shardwright_testkit::Error>(of_it.next().map(|l| l["create-time"].clone()))
        };
        let first = link().await?;
        assert!(first.is_some());
        stays(Duration::from_secs(1), || async { Ok(link().await? == first) }).await;

        let dir = original.dir().join("copy");
        std::fs::create_dir(&dir)?;
        std::fs::copy(original.dir().join("nodes.conf"), dir.join("nodes.conf"))?;
        let copy = Server::builder(&engine).cluster().dir(&dir).start()?;
        assert_eq!(copy.id().await?, id);
        // The node has one link from it at each moment, and it is made anew each time that the other process connects.
        let seen = RefCell::new(BTreeSet::new());
        let begun = Instant::now();
        until("the link was made anew ten times", SOON, || async {
            let made = link().await.map_err(|error| error.to_string())?;
            seen.borrow_mut().extend(made);
            let n = seen.borrow().len();
            if n > 10 { Ok(()) } else { Err(format!("{n} times")) }
        })
        .await?;
        measured("ten links of two processes with one id", &engine, begun.elapsed());
        // Its table has the one and the other, in turn.
        for process in [original, &copy] {
            let at = format!(":{}@", process.port());
            until("the table shows it there", SOON, || async {
                let row = row(other, &id).await.map_err(|error| error.to_string())?;
                if row.contains(&at) { Ok(()) } else { Err(row) }
            })
            .await?;
        }
        Ok(())
    }
}
