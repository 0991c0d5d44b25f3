//! Servers of this machine that lost their tables of nodes, or can't load their data: whose data counts is told, and none
//! is given up unasked.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use shardwright_testkit::wait::until_blocking;
use shardwright_testkit::{Engine, Report, each_engine, until};

use crate::local::{Local, OK};
use crate::rig::{changes, living_in, shell, tree};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const LIMIT: Duration = Duration::from_secs(20);

/// Three primaries and their replicas, all ended, of which the replicas ended first: the primaries alone have some keys.
pub(crate) struct Ended {
    pub(crate) local: Local,
    /// What the replicas have too, and what they lack.
    pub(crate) written: Vec<Report>,
}

impl Ended {
    pub(crate) async fn new(engine: &Engine) -> Outcome<Self> {
        let spec = "  persistence: {aof: true, fsync: always, rdb: false}\n";
        let local = Local::with_ports(engine, spec, 6)?;
        local.up(&[]).must(0, &["[OK]"]);
        // Redis 7.0 and Valkey 8.0 refuse a table that they wrote before everyone had heard of a shard's id.
        let agree = || async {
            for server in 0..6 {
                match local.shards_at(server).await {
                    Ok(3) => {}
                    other => return Err(format!("c-{server}: {other:?}")),
                }
            }
            Ok(())
        };
        until("shard ids agree", LIMIT, agree).await?;
        let mut ended = Self {
            local,
            written: Vec::new(),
        };
        ended.write("a").await?;
        ended.until_copied()?;
        ended.local.kill9(3..6)?;
        ended.write("b").await?;
        ended.local.kill9(0..3)?;
        ended.until_gone()?;
        Ok(ended)
    }

    async fn with(mut self, prefix: &str) -> Outcome<Self> {
        self.write(prefix).await?;
        Ok(self)
    }

    async fn write(&mut self, prefix: &str) -> Outcome<()> {
        let load = self.local.load(prefix)?;
        load.until_more(300, LIMIT).await?;
        self.written.push(load.stop().await);
        Ok(())
    }

    /// Waits until every replica has read all that its primary wrote.
    fn until_copied(&self) -> Outcome<()> {
        let copied = || {
            let status = self.local.status().map_err(|e| e.to_string())?;
            let shards = status["shards"].as_array().ok_or("no shards")?;
            let nodes = shards.iter().filter_map(|shard| shard["nodes"].as_array());
            let replicas: Vec<_> = nodes.flatten().filter(|n| n["role"] == "replica").collect();
            let copied = replicas.iter().all(|n| n["lag_bytes"] == 0);
            if copied && replicas.len() == 3 {
                Ok(())
            } else {
                Err(status.to_string())
            }
        };
        Ok(until_blocking("the replicas have all", LIMIT, copied)?)
    }

    fn until_gone(&self) -> Outcome<()> {
        let gone = || match living_in(&self.local.dir()) {
            pids if pids.is_empty() => Ok(()),
            pids => Err(format!("{pids:?}")),
        };
        Ok(until_blocking("the servers are gone", LIMIT, gone)?)
    }

    fn lose_table(&self, server: usize) -> Outcome<()> {
        Ok(fs::remove_file(
            self.local.node(server).join("data/nodes.conf"),
        )?)
    }

    async fn all_there(&self) -> Outcome<()> {
        for report in &self.written {
            self.local.all_there(report).await?;
        }
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn where_all_tables_are_lost_a_person_decides_whose_data_counts(engine) {
        let ended = Ended::new(&engine).await?;
        for server in 0..6 {
            ended.lose_table(server)?;
        }
        let local = &ended.local;
        local.up(&[]).must(3, &["does not belong here", "claims as well", "--accept-data-loss"]);
        local.run(&["check"]).must(1, &["[ERR]", "c-3 does not belong here", "claims as well", "--accept-data-loss"]);
        // Nobody was put in anybody's place; by a person's word those with most keys count, and the others copy them.
        local.up(&["--accept-data-loss"]).must(0, &["[OK]"]);
        local.run(&["check"]).must(0, &["[OK]"]);
        ended.all_there().await?;
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn what_check_says_of_two_with_the_same_slots_mends_it(engine) {
        let ended = Ended::new(&engine).await?;
        ended.lose_table(0)?;
        let local = &ended.local;
        let ran = local.up(&[]);
        assert!(matches!(ran.code, Some(0 | 3)), "{}{}", ran.out, ran.err);
        ended.all_there().await?;
        local.run(&["fix", "--accept-data-loss", "--timeout", "60"]).must(0, &["[OK]"]);
        local.run(&["check"]).must(0, &["[OK]"]);
        ended.all_there().await?;
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_replica_whose_table_was_emptied_begins_anew_and_its_directory_is_kept(engine) {
        let spec = "  persistence: {aof: true, fsync: always, rdb: false}\n";
        let local = Local::with_ports(&engine, spec, 6)?;
        local.up(&[]).must(0, &["[OK]"]);
        let ended = Ended { local, written: Vec::new() };
        let ended = ended.with("a").await?;
        ended.until_copied()?;
        let local = &ended.local;
        local.kill9([3])?;
        fs::write(local.node(3).join("data/nodes.conf"), "")?;
        local.up(&[]).must(0, &["c-3 as a new node", "[OK]"]);
        local.run(&["check"]).must(0, &["[OK]"]);
        assert!(local.node(3).join("data.aside-1/appendonlydir").is_dir());
        ended.all_there().await?;
        Ok(())
    }
}

each_engine! {
    [redis_7_4, valkey_8_0, valkey_9_1]
    async fn consent_starts_no_emptied_primary_before_a_replica_with_its_keys(engine) {
        let spec = "  persistence: {aof: true, fsync: always, rdb: false}\n";
        let local = Local::with_ports(&engine, spec, 6)?;
        local.up(&[]).must(0, &["[OK]"]);
        let ended = Ended { local, written: Vec::new() };
        let ended = ended.with("a").await?;
        ended.until_copied()?;
        let local = &ended.local;
        local.kill9([0, 3])?;
        fs::remove_dir_all(local.node(0).join("data/appendonlydir"))?;
        local.up(&[]).must(3, &["c-0 is held", "--accept-data-loss"]);
        local.run(&["fix", "--accept-data-loss", "--timeout", "60"]).must(0, &["[OK]"]);
        local.run(&["check"]).must(0, &["[OK]"]);
        ended.all_there().await?;
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn what_was_started_by_hand_without_its_table_is_started_for_its_data(engine) {
        let ended = Ended::new(&engine).await?;
        ended.lose_table(0)?;
        let (local, node) = (&ended.local, ended.local.node(0));
        // Nobody of ours sees it: it comes as a new node, claims what it has keys of, and ends.
        let mut by_hand = Command::new(&engine.path)
            .arg(node.join("redis.conf"))
            .current_dir(node.join("data"))
            .stdout(Stdio::null())
            .spawn()?;
        let table = node.join("data/nodes.conf");
        let claims = || match fs::read_to_string(&table) {
            Ok(text) if text.contains(" - 0 0 0 connected ") => Ok(()),
            other => Err(format!("{other:?}")),
        };
        let claimed = until_blocking("it claims its slots", LIMIT, claims);
        by_hand.kill()?;
        by_hand.wait()?;
        claimed?;
        let ran = local.up(&[]);
        assert!(matches!(ran.code, Some(0 | 3)), "{}{}", ran.out, ran.err);
        ended.all_there().await?;
        // It holds nothing that is not served: as told, it is emptied, and a replica then.
        local.empty(0).await?;
        local.up(&[]).must(0, &["[OK]"]);
        ended.all_there().await?;
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_primary_that_cannot_load_its_log_is_passed_by_a_persons_word_only(engine) {
        let ended = Ended::new(&engine).await?;
        let local = &ended.local;
        let log = local.break_log(0, 4..8)?;
        let whole = fs::read_dir(&log)?.count();
        local.up(&[]).must(3, &["c-0 can't load its data", "appendonly.aof", "--fix", "--accept-data-loss"]);
        local.run(&["check"]).must(1, &["[ERR]  c-0 can't load its data", "--fix", "--accept-data-loss"]);
        assert_eq!(fs::read_dir(&log)?.count(), whole, "it alone has some keys");
        local.run(&["fix", "--accept-data-loss", "--timeout", "60"]).must(0, &[]);
        local.run(&["status"]).must(0, &["16384 of 16384 slots covered"]);
        // What it had is still there for whoever repairs it, and what its replica had is served.
        let kept = local.node(0).join("data.aside-1/appendonlydir");
        assert_eq!(fs::read_dir(&kept)?.count(), whole);
        local.all_there(&ended.written[0]).await?;
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn what_one_shard_lacks_keeps_nobody_from_watching_the_others(engine) {
        let ended = Ended::new(&engine).await?;
        ended.local.break_log(0, 4..8)?;
        let mut watch = ended.local.watch();
        let before = ended.local.pid(1)?;
        ended.local.kill9([1])?;
        watch.until_said("start c-1", LIMIT);
        let again = || match ended.local.pid(1) {
            Ok(pid) if pid != before => Ok(()),
            other => Err(format!("{other:?}")),
        };
        until_blocking("it runs again", LIMIT, again)?;
        // What can't load its data is not tried again before that has changed.
        watch.until_said("c-0 can't load its data", LIMIT);
        watch.signal("TERM", false);
        let said = watch.end().must(0, &["the watch has ended; the servers run on"]);
        let tries = said.err.matches("start c-0").count();
        assert!(tries < 4, "{tries} tries: {}", said.err);
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn a_lost_directory_is_mended_by_up_and_a_copied_one_is_refused(engine) {
        let local = Local::new(&engine, "")?;
        local.up(&[]).must(0, &[OK]);
        let written = local.write("a").await?;
        local.run(&["down"]).must(0, &[]);
        let replica = 3;
        fs::remove_dir_all(local.node(replica).join("data"))?;
        local.up(&[]).must(0, &[OK]);
        local.all_there(&written).await?;

        local.run(&["down"]).must(0, &[]);
        // The data of one node in the seat of another: two nodes of one id.
        let (from, to) = (local.node(4).join("data"), local.node(5).join("data"));
        let kept = local.home.path("kept");
        fs::rename(&to, &kept)?;
        shell(&format!("cp -a '{}' '{}'", from.display(), to.display()));
        // It keeps nobody else down, and is left as it is.
        let before = tree(&to);
        local.up(&[]).must(3, &["c-5 is not started", "nodes/c-5/data holds the data of node", "does not belong here", "move this one away"]);
        assert_eq!(changes(&before, &tree(&to)), Vec::<PathBuf>::new());
        assert_eq!(living_in(&local.dir()).len(), 5);
        local.all_there(&written).await?;
        fs::remove_dir_all(&to)?;
        fs::rename(&kept, &to)?;
        local.up(&[]).must(0, &[OK]);
        local.all_there(&written).await?;
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn data_of_another_cluster_in_a_seat_is_refused_and_untouched(engine) {
        let local = Local::new(&engine, "")?;
        local.up(&[]).must(0, &[OK]);
        let written = local.write("a").await?;
        local.run(&["down"]).must(0, &[]);
        let other = Local::new(&engine, "")?;
        other.up(&[]).must(0, &[OK]);
        let theirs = other.write("x").await?;
        other.run(&["down"]).must(0, &[]);
        // Their first primary, with its slots and keys, in one of our seats.
        let seat = local.node(0).join("data");
        let kept = local.home.path("kept");
        fs::rename(&seat, &kept)?;
        let lent = other.node(0).join("data");
        shell(&format!("cp -a '{}' '{}'", lent.display(), seat.display()));
        let before = tree(&seat);
        for verb in [&["up"][..], &["fix", "--timeout", "20"]] {
            local.run(verb).must(3, &["c-0 is not started", "nodes/c-0/data holds the data of node", "does not belong here"]);
            assert_eq!(living_in(&local.dir()).len(), 5);
        }
        local.run(&["down"]).must(0, &["5 server(s) stopped"]);
        assert_eq!(changes(&before, &tree(&seat)), Vec::<PathBuf>::new());
        // What was lent still has its keys, and its cluster takes it back.
        fs::remove_dir_all(&lent)?;
        fs::rename(&seat, &lent)?;
        other.up(&[]).must(0, &[OK]);
        other.all_there(&theirs).await?;
        fs::rename(&kept, &seat)?;
        local.up(&[]).must(0, &[OK]);
        local.all_there(&written).await?;
        Ok(())
    }
}
