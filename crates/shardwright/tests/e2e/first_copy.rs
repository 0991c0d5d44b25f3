//! A replica that takes its first copy of a primary when that dies has none of its data: nobody puts it in its place.

use std::time::Duration;

use shardwright_testkit::replication::failed_primaries;
use shardwright_testkit::{
    Cluster, Engine, Load, LoadOptions, Persistence, Report, Server, ServerBuilder, each_engine,
    until,
};
use shardwright_topology::Role;

use crate::rig::{Home, Ran, standing};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const LIMIT: Duration = Duration::from_secs(30);
/// The server whose data is copied.
const PRIMARY: usize = 1;

/// What the replica was before it was told to follow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// A new server: it has no offset.
    Empty,
    /// A replica of another primary: it has an offset and a link that it lost. Our own commands set such a one not to be
    /// elected by itself.
    Replica { held_back: bool },
}

/// Primaries with keys that are on their disks, and a server that is told to follow the second.
struct Copying {
    home: Home,
    cluster: Cluster,
    /// The server that copies: the last one.
    copies: usize,
    written: Report,
}

impl Copying {
    async fn new(engine: &Engine, primaries: usize, before: Before) -> Outcome<Self> {
        let adjust = |builder: ServerBuilder| {
            // Without copies for 3 s the engine itself elects nobody.
            builder
                .persistence(Persistence::AofAlways)
                .config("cluster-node-timeout", "2000")
                .config("cluster-replica-validity-factor", "1")
                .config("repl-ping-replica-period", "1")
                .config("repl-diskless-sync-delay", "0")
                .config("rdbcompression", "no")
                .config("cluster-allow-replica-migration", "no")
        };
        let mut cluster = Cluster::start(engine, primaries + 1, adjust)?;
        let replica = (before == Before::Empty).then(|| cluster.servers.pop());
        cluster.form(primaries).await?;
        if let Some(replica) = replica {
            cluster.servers.extend(replica);
            cluster.meet_all().await?;
            cluster.until_known().await?;
        }
        // A copy is sent by 16 KB at a time, or more.
        let options = LoadOptions {
            padding_bytes: 1_000,
            ..LoadOptions::default()
        };
        let load = Load::start(&cluster.addresses(), options);
        load.until_more(600, LIMIT).await?;
        let written = load.stop().await;
        let home = Home::new()?;
        Ok(Self {
            home,
            cluster,
            copies: primaries,
            written,
        })
    }

    fn target(&self) -> String {
        self.cluster[2].address()
    }

    /// The replica follows the second primary from now on.
    async fn follow(&self, before: Before) -> Outcome<()> {
        let replica = &self.cluster[self.copies];
        if before == (Before::Replica { held_back: true }) {
            let set = ["CONFIG", "SET", "cluster-replica-no-failover", "yes"];
            replica.ask::<()>(&set).await?;
        }
        let id = self.cluster[PRIMARY].id().await?;
        Ok(replica.ask::<()>(&["CLUSTER", "REPLICATE", &id]).await?)
    }

    /// It has asked for its first copy, and nothing was sent yet.
    async fn asks(&self, before: Before) -> Outcome<()> {
        let primary = &self.cluster[PRIMARY];
        let delay = ["CONFIG", "SET", "repl-diskless-sync-delay", "60"];
        primary.ask::<()>(&delay).await?;
        self.follow(before).await?;
        self.until_waiting().await
    }

    /// A part of its first copy has arrived.
    async fn has_a_part(&self, before: Before) -> Outcome<()> {
        let primary = &self.cluster[PRIMARY];
        // 20 ms for each key: 4 s for these.
        let slowly = ["CONFIG", "SET", "rdb-key-save-delay", "20000"];
        primary.ask::<()>(&slowly).await?;
        let keys: u64 = primary.ask(&["DBSIZE"]).await?;
        assert!(keys > 150, "{keys}");
        self.follow(before).await?;
        self.until_waiting().await?;
        let arrives = || async {
            match self.cluster[self.copies].copied_bytes().await {
                Ok(Some(read)) if read > 0 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        };
        until("a part has arrived", LIMIT, arrives).await?;
        Ok(())
    }

    async fn until_waiting(&self) -> Outcome<()> {
        let port = format!("port={},", self.cluster[self.copies].port());
        let listed = || async {
            match self.cluster[PRIMARY].first_replica().await {
                Ok(Some(row)) if row.contains(&port) && row.contains("state=wait_bgsave") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        };
        until("the primary is asked for the copy", LIMIT, listed).await?;
        Ok(())
    }

    /// The former link was lost for too long for the engine to elect the replica, as far as that knows.
    async fn until_too_old(&self) -> Outcome<()> {
        let old = || async {
            match self.cluster[self.copies].link_lost_s().await {
                Ok(Some(lost_s)) if lost_s > 4 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        };
        until("its former link is long gone", LIMIT, old).await?;
        Ok(())
    }

    /// The primary dies, with others, and everybody holds them to have failed.
    async fn dies(&mut self, with: &[usize]) -> Outcome<()> {
        for server in with.iter().chain(&[PRIMARY]) {
            self.cluster[*server].kill9()?;
        }
        let many = with.len() + 1;
        let failed = |view: &str| failed_primaries(view) == many;
        self.cluster.until_views("it has failed", failed).await?;
        Ok(())
    }

    fn run(&self, words: &[&str]) -> Ran {
        let replica = self.cluster[self.copies].address();
        let target = self.target();
        match words {
            ["failover", more @ ..] => {
                let words = [&["failover", &target, &replica], more].concat();
                self.home.run(&words)
            }
            [verb, more @ ..] => self.home.run(&[&[*verb, &target], more].concat()),
            [] => unreachable!("a verb is named"),
        }
    }

    /// Nobody is put in its place, whoever asks, and the reason is told.
    async fn is_not_passed_over(&self) -> Outcome<()> {
        let dead = self.cluster[PRIMARY].address();
        let lacks = format!("({dead}) is proved to have a copy of its data");
        let proves = "nothing proves that it has a copy of the data of";
        let start = format!("({dead}) again");
        let found = ["is dead", "start it again", "has no copy or no link"];
        let ran = self.refuses(&["check"], 1, &found).await?;
        ran.without(&["--takeover", "--force"]);
        let fix = ["fix", "--timeout", "5"];
        self.refuses(&fix, 1, &["no replica of", &lacks]).await?;
        for how in ["--force", "--takeover"] {
            let failover = ["failover", how, "--timeout", "5"];
            self.refuses(&failover, 3, &[proves, &start]).await?;
        }
        Ok(())
    }

    /// Ends with this status and says these words, and never promotes the replica or succeeds. A link that the engine is
    /// dialling in vain is shown as one for a moment: then the primary is not held to be dead, and that is said instead.
    async fn refuses(&self, words: &[&str], code: i32, why: &[&str]) -> Outcome<Ran> {
        let refuses = || async {
            let ran = self.run(words);
            assert_ne!(ran.code, Some(0), "{ran:?}");
            let found = standing(&self.cluster[self.copies]).await;
            let role = found.map_err(|e| e.to_string())?.role;
            assert_eq!(role, Role::Replica, "{ran:?}");
            let told = format!("{}{}", ran.out, ran.err);
            if ran.code == Some(code) && why.iter().all(|why| told.contains(why)) {
                Ok(ran)
            } else {
                Err(format!("{ran:?}"))
            }
        };
        Ok(until("it refuses, and says why", LIMIT, refuses).await?.0)
    }

    /// The primary comes back with its file, and all is there and copied.
    async fn comes_back(mut self) -> Outcome<()> {
        self.cluster[PRIMARY].restart()?;
        self.run(&["fix"]).must(0, &["[OK] the cluster is healthy"]);
        let lost = self.written.lost(&self.cluster.addresses()).await?;
        assert_eq!(lost, [], "of {}", self.written.acked());
        let (primary, replica) = (
            standing(&self.cluster[PRIMARY]).await?,
            standing(&self.cluster[self.copies]).await?,
        );
        assert_eq!((primary.role, replica.role), (Role::Primary, Role::Replica));
        let there: u64 = self.cluster[PRIMARY].ask(&["DBSIZE"]).await?;
        let copied = || async {
            let keys = self.cluster[self.copies].ask::<u64>(&["DBSIZE"]).await;
            match keys {
                Ok(keys) if keys == there => Ok(()),
                other => Err(format!("{other:?} of {there}")),
            }
        };
        until("the replica has all of it", LIMIT, copied).await?;
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_new_server_that_waits_for_its_first_copy_takes_nobodys_place(engine) {
        let mut scene = Copying::new(&engine, 3, Before::Empty).await?;
        scene.asks(Before::Empty).await?;
        scene.dies(&[]).await?;
        scene.is_not_passed_over().await?;
        scene.comes_back().await
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_new_server_with_a_part_of_its_first_copy_takes_nobodys_place(engine) {
        let mut scene = Copying::new(&engine, 3, Before::Empty).await?;
        scene.has_a_part(Before::Empty).await?;
        scene.dies(&[]).await?;
        scene.is_not_passed_over().await?;
        scene.comes_back().await
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_replica_of_another_that_waits_for_its_first_copy_takes_nobodys_place(engine) {
        let before = Before::Replica { held_back: true };
        let mut scene = Copying::new(&engine, 3, before).await?;
        scene.asks(before).await?;
        scene.dies(&[]).await?;
        scene.is_not_passed_over().await?;
        scene.comes_back().await
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn the_link_that_a_replica_lost_to_another_primary_proves_no_copy(engine) {
        let before = Before::Replica { held_back: false };
        let mut scene = Copying::new(&engine, 3, before).await?;
        scene.asks(before).await?;
        scene.until_too_old().await?;
        scene.dies(&[]).await?;
        scene.is_not_passed_over().await?;
        scene.comes_back().await
    }
}

// Nobody is left to say whose stream it has: that its keys are another shard's tells it.
each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_link_lost_to_a_primary_that_is_dead_too_proves_no_copy(engine) {
        let before = Before::Replica { held_back: false };
        let mut scene = Copying::new(&engine, 5, before).await?;
        scene.asks(before).await?;
        scene.until_too_old().await?;
        scene.dies(&[0]).await?;
        scene.is_not_passed_over().await?;
        scene.cluster[0].restart()?;
        scene.comes_back().await
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_replica_has_joined_only_once_it_may_take_its_primarys_place(engine) {
        let home = Home::new()?;
        let cluster = Cluster::formed(&engine, 3, 0, |builder| builder).await?;
        let load = Load::start(&cluster.addresses(), LoadOptions::default());
        load.until_more(300, LIMIT).await?;
        load.stop().await;
        let new = Server::builder(&engine).cluster().start()?;
        let (target, node) = (cluster[0].address(), new.address());
        for (key, value) in [("repl-diskless-sync", "yes"), ("repl-diskless-sync-delay", "20")] {
            cluster[1].ask::<()>(&["CONFIG", "SET", key, value]).await?;
        }
        let words = ["add-node", &target, &node, "--replica-of", &cluster[1].address()];
        let ran = home.run(&[&words[..], &["--timeout", "5"]].concat());
        ran.must(1, &["not done in time", "takes its first copy"]);
        home.run(&words).must(0, &["[OK]"]);
        let held = new.ask::<Vec<String>>(&["CONFIG", "GET", "cluster-replica-no-failover"]).await?;
        assert_eq!(held.last().map(String::as_str), Some("no"), "{held:?}");
        Ok(())
    }
}
