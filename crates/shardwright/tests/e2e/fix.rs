//! `check` names what is wrong and what mends it; `fix` mends it, and no key is lost by it.

use std::time::Duration;

use shardwright_testkit::slots::tag_for;
use shardwright_testkit::{
    Cluster, Engine, Load, LoadOptions, Persistence, Report, Server, each_engine, until,
};

use shardwright_topology::Role;

use crate::rig::{Home, Ran, cli_check, replicas_of, standing};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const LIMIT: Duration = Duration::from_secs(30);
/// One of the lanes of the load: its slot is the first primary's, and has keys.
const SLOT: u16 = 7;

/// Three shards with a replica each, and keys in all of them.
struct Broken {
    home: Home,
    cluster: Cluster,
    written: Report,
}

impl Broken {
    async fn new(engine: &Engine) -> Outcome<Self> {
        Self::with_replicas(engine, 1).await
    }

    async fn with_replicas(engine: &Engine, replicas: usize) -> Outcome<Self> {
        let home = Home::new()?;
        let keep = |builder: shardwright_testkit::ServerBuilder| {
            builder.persistence(Persistence::AofAlways)
        };
        let cluster = Cluster::formed(engine, 3, replicas, keep).await?;
        let load = Load::start(&cluster.addresses(), LoadOptions::default());
        load.until_more(180, LIMIT).await?;
        let written = load.stop().await;
        Ok(Self {
            home,
            cluster,
            written,
        })
    }

    fn target(&self) -> String {
        self.cluster[1].address()
    }

    fn check(&self) -> Ran {
        self.home.run(&["check", &self.target()])
    }

    fn fix(&self) -> Ran {
        self.home.run(&["fix", &self.target()])
    }

    /// `check` finds it, as soon as gossip is at rest, and names the command; looking changes nothing.
    async fn found_and_named(&self, code: i32, words: &[&str]) -> Outcome<()> {
        let found = || async {
            let ran = self.check();
            let told = format!("{}\n{}", ran.out, ran.err);
            let all = ran.code == Some(code) && words.iter().all(|word| told.contains(word));
            if all {
                Ok(())
            } else {
                Err(format!("{:?}, not {code} and {words:?}: {told}", ran.code))
            }
        };
        until("check finds it", Duration::from_secs(10), found).await?;
        // What rests on a death waits until a majority of the primaries holds the node to have failed.
        let planned = || async {
            for verb in [["fix", "--dry-run"].as_slice(), &["plan"]] {
                let target = self.target();
                let ran = self
                    .home
                    .run(&[&[verb[0], target.as_str()], &verb[1..]].concat());
                if ran.code != Some(0) || !ran.out.contains("because") {
                    return Err(format!("{verb:?}: {}\n{}", ran.out, ran.err));
                }
            }
            Ok(())
        };
        until("fix and plan have steps", Duration::from_secs(20), planned).await?;
        self.check().must(code, words);
        Ok(())
    }

    async fn well(&self) -> Outcome<()> {
        self.check()
            .must(0, &["[OK]", "nodes agree"])
            .without(&["[ERR]"]);
        let engine = self.cluster[1].engine();
        let content = || async { cli_check(engine, &self.target(), &[]) };
        until("redis-cli is content", Duration::from_secs(10), content).await?;
        let lost = self.written.lost(&self.cluster.addresses()).await?;
        assert_eq!(lost, [], "of {} keys", self.written.acked());
        Ok(())
    }

    /// Opens [`SLOT`] at its owner and at server 1, as asked.
    async fn open(&self, migrating: bool, importing: bool) -> Outcome<()> {
        let (slot, from, to) = (
            SLOT.to_string(),
            self.cluster[0].id().await?,
            self.cluster[1].id().await?,
        );
        if importing {
            self.cluster[1]
                .ask::<()>(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from])
                .await?;
        }
        if migrating {
            self.cluster[0]
                .ask::<()>(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to])
                .await?;
        }
        Ok(())
    }

    /// Every node is told that nobody owns a slot.
    async fn disown(&self, slot: &str) -> Outcome<()> {
        for server in &self.cluster.servers {
            server.ask::<()>(&["CLUSTER", "DELSLOTS", slot]).await?;
        }
        Ok(())
    }

    /// The first primary loses its table of nodes, and comes back with its data under another id; the others notice.
    async fn lose_id(&mut self) -> Outcome<()> {
        self.cluster[0].kill9()?;
        std::fs::remove_file(self.cluster[0].dir().join("nodes.conf"))?;
        self.cluster[0].restart()?;
        let noticed = || async {
            for server in &self.cluster.servers[1..] {
                let nodes = server
                    .ask::<String>(&["CLUSTER", "NODES"])
                    .await
                    .map_err(|e| e.to_string())?;
                if !nodes.contains("noaddr") {
                    return Err(nodes);
                }
            }
            Ok(())
        };
        until("the old id has no address", LIMIT, noticed).await?;
        Ok(())
    }

    /// Moves so many keys of the open slot by hand.
    async fn move_keys(&self, count: usize) -> Outcome<()> {
        let slot = SLOT.to_string();
        let many = count.to_string();
        let keys: Vec<String> = self.cluster[0]
            .ask(&["CLUSTER", "GETKEYSINSLOT", &slot, &many])
            .await?;
        assert!(!keys.is_empty(), "the slot has keys");
        let (host, port) = (
            self.cluster[1].host().to_owned(),
            self.cluster[1].port().to_string(),
        );
        let mut words = vec!["MIGRATE", &host, &port, "", "0", "5000", "KEYS"];
        words.extend(keys.iter().map(String::as_str));
        self.cluster[0].ask::<()>(&words).await?;
        Ok(())
    }

    async fn keys_in_slot(&self, server: usize) -> Outcome<usize> {
        let slot = SLOT.to_string();
        Ok(self.cluster[server]
            .ask(&["CLUSTER", "COUNTKEYSINSLOT", &slot])
            .await?)
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn open_slots_are_closed_in_the_right_direction(engine) {
        let broken = Broken::new(&engine).await?;
        let open = format!("slot {SLOT} is half moved");
        let mends = format!("shardwright fix {}", broken.target());
        let words = ["[ERR]", &open, &mends];

        broken.open(true, true).await?;
        broken.found_and_named(1, &words).await?;
        broken.fix().must(0, &["[OK] the cluster is healthy"]);
        broken.well().await?;

        broken.open(false, true).await?;
        broken.found_and_named(1, &words).await?;
        broken.fix().must(0, &["[OK]"]);
        broken.well().await?;

        broken.open(true, false).await?;
        broken.found_and_named(1, &words).await?;
        broken.fix().must(0, &["[OK]"]);
        broken.well().await?;
        let count = broken.keys_in_slot(0).await?;
        assert_eq!(broken.keys_in_slot(1).await?, 0, "nothing had moved, and nothing is moved");

        // Half of the keys on either side.
        broken.open(true, true).await?;
        broken.move_keys(count / 2).await?;
        broken.found_and_named(1, &words).await?;
        broken.fix().must(0, &["[OK]"]);
        broken.well().await?;
        let (at_first, at_second) = (broken.keys_in_slot(0).await?, broken.keys_in_slot(1).await?);
        assert!(at_first + at_second == count && at_first.min(at_second) == 0, "{at_first} + {at_second}");
        if at_first == 0 {
            return Ok(());
        }
        // All of them moved, only the owner not yet changed.
        broken.open(true, true).await?;
        broken.move_keys(count).await?;
        broken.found_and_named(1, &words).await?;
        broken.fix().must(0, &["[OK]"]);
        broken.well().await?;
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn an_all_moved_slot_goes_to_where_its_keys_are(engine) {
        let broken = Broken::new(&engine).await?;
        broken.open(true, true).await?;
        let count = broken.keys_in_slot(0).await?;
        broken.move_keys(count).await?;
        broken.found_and_named(1, &["is half moved"]).await?;
        broken.fix().must(0, &["[OK]"]);
        broken.well().await?;
        assert_eq!((broken.keys_in_slot(0).await?, broken.keys_in_slot(1).await?), (0, count), "no key moves back");
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn replicas_go_where_they_are_missing(engine) {
        let broken = Broken::new(&engine).await?;
        let second = broken.cluster[1].id().await?;
        // A shard without a replica, and one with two.
        broken.cluster[3].ask::<()>(&["CLUSTER", "REPLICATE", &second]).await?;
        broken.cluster.meet_all().await?;
        broken.cluster.until_views("both follow the second", |view| replicas_of(view, &second) == 2).await?;
        broken.found_and_named(0, &["[note]", "has no live replica"]).await?;
        broken.fix().must(0, &["[OK] the cluster is healthy"]);
        broken.well().await?;
        broken.check().must(0, &[]).without(&["has no live replica"]);

        // A replica of a primary without slots, which died.
        let mut empty = Server::builder(&engine).cluster().start()?;
        let id = empty.id().await?;
        broken.home.run(&["add-node", &broken.target(), &empty.address(), "--primary"]).must(0, &["has joined"]);
        let mut replica = None;
        for server in &broken.cluster.servers {
            if standing(server).await?.role == Role::Replica {
                replica = Some(server);
            }
        }
        let replica = replica.ok_or("no replica")?;
        replica.ask::<()>(&["CLUSTER", "REPLICATE", &id]).await?;
        broken.cluster.meet_all().await?;
        broken.cluster.until_views("one follows it", |view| replicas_of(view, &id) == 1).await?;
        // Valkey 9.1 elects it soon after the death, to be a primary without slots.
        let setting = "cluster-replica-no-failover";
        replica.ask::<()>(&["CONFIG", "SET", setting, "yes"]).await?;
        empty.kill9()?;
        broken.found_and_named(1, &["[ERR]", "follows a node that owns no slots", "shardwright fix"]).await?;
        broken.home.run(&["fix", &broken.target()]).must(1, &[&empty.address(), "not heard"]);
        replica.ask::<()>(&["CONFIG", "SET", setting, "no"]).await?;
        broken.check().must(1, &[]).without(&["follows a node that owns no slots", "has no live replica"]);
        // It was not reset: once it runs again it is back, and that is said.
        broken.home.run(&["remove-node", &broken.target(), &id]).must(1, &["is forgotten by every other node", "was not reset"]);
        broken.well().await?;
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn a_forgotten_node_and_one_at_a_new_address_are_met_again(engine) {
        let mut broken = Broken::new(&engine).await?;
        let left_out = broken.cluster[3].id().await?;
        for (at, server) in broken.cluster.servers.iter().enumerate() {
            if at != 3 {
                server.ask::<()>(&["CLUSTER", "FORGET", &left_out]).await?;
            }
        }
        let target = broken.cluster[3].address();
        broken.home.run(&["check", &target]).must(1, &["[ERR]", "do not know", "shardwright fix"]);
        broken.home.run(&["fix", &target]).must(0, &["[OK] the cluster is healthy"]);
        broken.cluster.until_known().await?;
        broken.well().await?;

        broken.cluster[4].kill9()?;
        broken.cluster[4].restart_at_new_port()?;
        let target = broken.cluster[4].address();
        broken.home.run(&["fix", &target]).must(0, &["[OK] the cluster is healthy"]);
        broken.well().await?;
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn slots_without_owner_go_to_the_one_that_has_their_keys(engine) {
        let broken = Broken::new(&engine).await?;
        // No lane of the load writes to the first; the second has keys.
        for slot in ["100", "7"] {
            broken.disown(slot).await?;
        }
        broken.check().must(1, &["[ERR]", "no node has a key of them: 100", "hold keys of them: 7"])
            .without(&["--accept-data-loss"]);
        broken.fix().must(0, &["[OK] the cluster is healthy"]);
        broken.well().await?;
        let key = format!("{{{}}}", tag_for(100));
        let load = Load::start(&broken.cluster.addresses(), LoadOptions { slots: vec![100], prefix: key, ..LoadOptions::default() });
        load.until_more(5, LIMIT).await?;
        load.stop().await;

        // Only one node gives it away: everyone's table has an owner, and nobody claims it.
        let other = broken.cluster[1].id().await?;
        let lost = ["CLUSTER", "SETSLOT", "101", "NODE", &other];
        broken.cluster[0].ask::<()>(&lost).await?;
        broken.check().must(1, &["[ERR]", "no node has a key of them: 101"]);
        broken.fix().must(0, &["[OK] the cluster is healthy"]);
        broken.well().await?;
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_slot_whose_keys_are_at_two_is_for_a_person(engine) {
        let broken = Broken::new(&engine).await?;
        broken.open(true, true).await?;
        broken.move_keys(1).await?;
        let slot = SLOT.to_string();
        for server in &broken.cluster.servers[..2] {
            server.ask::<()>(&["CLUSTER", "SETSLOT", &slot, "STABLE"]).await?;
        }
        broken.disown(&slot).await?;
        let keys = || async { Ok::<_, Box<dyn std::error::Error + Send + Sync>>((broken.keys_in_slot(0).await?, broken.keys_in_slot(1).await?)) };
        let before = keys().await?;
        assert!(before.0 > before.1 && before.1 == 1, "{before:?}");
        let names = [broken.cluster[0].address(), broken.cluster[1].address()];
        broken.check().must(1, &["[ERR]", "hold keys of them: 7", "--accept-data-loss"]);
        broken.fix().must(3, &["nobody owns slots 7", "hold keys of them", "--accept-data-loss"]);
        assert_eq!(keys().await?, before, "a refusal touches nothing: {names:?}");
        broken.home.run(&["fix", &broken.target(), "--accept-data-loss"]);
        let lost = broken.written.lost(&broken.cluster.addresses()).await?;
        assert!(lost.len() <= 1, "the node with most keys serves the slot: {lost:?}");
        let after = keys().await?;
        assert_eq!(after.0 + after.1, before.0 + before.1, "and no key is deleted");
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn a_dead_primary_is_replaced_by_its_replica_and_comes_back_as_one(engine) {
        let mut broken = Broken::new(&engine).await?;
        broken.cluster[0].kill9()?;
        broken.check().must(1, &["[ERR]", &broken.cluster[0].address(), "is not heard", "primary"]);
        // The dead one stays dead: what can be done is done, and the rest is said.
        let ran = broken.fix().must(1, &["servers that do not run", &broken.cluster[0].address()]);
        assert_eq!(standing(&broken.cluster[3]).await?.role, Role::Primary, "{ran:?}");
        let lost = broken.written.lost(&broken.cluster.addresses()[1..]).await?;
        assert_eq!(lost, []);
        broken.cluster[0].restart()?;
        broken.fix().must(0, &["[OK] the cluster is healthy"]);
        broken.well().await?;
        assert_eq!(standing(&broken.cluster[0]).await?.role, Role::Replica, "the old primary is a replica");
        Ok(())
    }
}

// Valkey 9.1 holds the old id to have failed, and promotes by itself.
each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0]
    async fn a_primary_that_lost_its_id_is_taken_in_with_its_data(engine) {
        let mut broken = Broken::with_replicas(&engine, 0).await?;
        broken.lose_id().await?;
        let (target, back) = (broken.target(), broken.cluster[0].address());
        broken.check().must(1, &["[ERR]", "is listed without an address", "do not empty", "shardwright add-node"])
            .without(&["FLUSHALL"]);
        // Nobody named it: nothing is given away.
        broken.home.run(&["fix", &target])
            .must(3, &["is listed without an address", "empty no server"])
            .without(&["give slots"]);
        broken.home.run(&["add-node", &target, &back, "--dry-run"]).must(0, &["forget"]);
        broken.home.run(&["add-node", &target, &back]).must(0, &["is taken in with its data", "[OK]"]);
        broken.well().await?;
        Ok(())
    }
}

// Valkey 9.1 holds the old id to have failed, and promotes by itself.
each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0]
    async fn a_replica_of_a_primary_that_lost_its_id_takes_its_place_when_asked(engine) {
        let mut broken = Broken::new(&engine).await?;
        broken.lose_id().await?;
        let (target, back) = (broken.target(), broken.cluster[0].address());
        let replica = broken.cluster[3].id().await?;
        broken.check().must(1, &["[ERR]", "is listed without an address", &replica, "--takeover"]);
        // It would be emptied by no advice of ours.
        broken.home.run(&["add-node", &target, &back]).must(3, &["Do not empty it"]).without(&["FLUSHALL"]);
        broken.home.run(&["failover", &target, &replica, "--takeover"]).must(0, &["is the primary"]);
        assert_eq!(standing(&broken.cluster[3]).await?.role, Role::Primary);
        let lost = broken.written.lost(&broken.cluster.addresses()[1..]).await?;
        assert_eq!(lost, []);
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn slots_of_a_dead_primary_without_a_copy_are_covered_by_a_persons_word(engine) {
        let mut broken = Broken::with_replicas(&engine, 0).await?;
        broken.cluster[0].kill9()?;
        let failed = || async {
            for server in &broken.cluster.servers[1..] {
                let nodes = server.ask::<String>(&["CLUSTER", "NODES"]).await.map_err(|e| e.to_string())?;
                if !nodes.contains(",fail ") {
                    return Err(nodes);
                }
            }
            Ok(())
        };
        until("it has failed", LIMIT, failed).await?;
        broken.check().must(1, &["[ERR]", "--accept-data-loss"]);
        broken.home.run(&["fix", &broken.target(), "--timeout", "5"]).without(&["forget"]);
        broken.home.run(&["fix", &broken.target(), "--accept-data-loss"]).must(0, &["[OK] the cluster is healthy"]);
        broken.check().must(0, &["[OK] 2 nodes agree"]);
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn slots_of_a_primary_that_the_others_forgot_are_not_given_away(engine) {
        let broken = Broken::with_replicas(&engine, 0).await?;
        // The one with the smallest epoch: it would believe the others.
        let left_out = broken.cluster[0].id().await?;
        for server in &broken.cluster.servers[1..] {
            server.ask::<()>(&["CLUSTER", "FORGET", &left_out]).await?;
        }
        let at = broken.cluster[0].address();
        let count = "5461 slots have no owner: 0-5460, and a node that all others were made to forget";
        broken.check().must(1, &["[ERR]", count, "shardwright fix HOST:PORT", "--accept-data-loss"]);
        broken.fix().must(3, &["nobody owns slots 0-5460", "forget", "--accept-data-loss"])
            .without(&["give slots"]);
        broken.home.run(&["fix", &at]).must(0, &["[OK] the cluster is healthy"]);
        broken.well().await?;
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_server_that_lost_its_table_is_given_nothing_by_itself(engine) {
        let mut broken = Broken::with_replicas(&engine, 0).await?;
        broken.lose_id().await?;
        let back = broken.cluster[0].address();
        let told = "may have lost its table of nodes";
        broken.home.run(&["check", &back]).must(1, &["[ERR]", told, "shardwright check HOST:PORT"]);
        broken.home.run(&["fix", &back]).must(3, &[told]).without(&["give slots"]);
        broken.home.run(&["add-node", &broken.target(), &back]).must(0, &["is taken in with its data", "[OK]"]);
        broken.well().await?;
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn slots_whose_keys_a_frozen_node_may_have_wait_for_it(engine) {
        let broken = Broken::with_replicas(&engine, 0).await?;
        broken.disown(&SLOT.to_string()).await?;
        broken.cluster[0].ask::<()>(&["CLIENT", "PAUSE", "60000", "ALL"]).await?;
        for consent in [None, Some("--accept-data-loss")] {
            let target = broken.target();
            let args: Vec<&str> = ["fix", &target, "--timeout", "15"].into_iter().chain(consent).collect();
            broken.home.run(&args).must(3, &["nobody owns slots 7; see to it that every server is heard"])
                .without(&["restore its data", "accept-data-loss", "give slots"]);
        }
        Ok(())
    }
}
