//! Keys in a slot that their node does not own: a move that was broken off, and closed at both ends.

use shardwright_engine::{Access, Client, Endpoint};
use shardwright_testkit::slots::tag_for;
use shardwright_testkit::{Cluster, Engine, Server, each_engine, until};

use crate::rig::{Home, replicas_of};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A slot of the first primary.
const SLOT: u16 = 7;

/// Four primaries, and keys of [`SLOT`] in these databases.
struct StrayKeys {
    home: Home,
    cluster: Cluster,
    databases: Vec<u32>,
}

/// A command to one server, on a connection that works on this database.
async fn ask_in(server: &Server, database: u32, words: &[&str]) -> Outcome<String> {
    let endpoint: Endpoint = server.address().parse()?;
    let client = Client::connect_to_database(&endpoint, &Access::default(), database).await?;
    let words: Vec<Vec<u8>> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
    Ok(format!("{:?}", client.call(&words).await?))
}

fn key(name: &str) -> String {
    format!("{{{}}}{name}", tag_for(SLOT))
}

impl StrayKeys {
    async fn new(engine: &Engine, databases: &[u32], replicas: usize) -> Outcome<Self> {
        let count = (databases.iter().max().ok_or("no database")? + 1).to_string();
        let cluster = Cluster::formed(engine, 4, replicas, |builder| match databases {
            [_] => builder,
            _ => builder.config("cluster-databases", &count),
        })
        .await?;
        for database in databases {
            for name in ["k1", "k2", "k3"] {
                ask_in(&cluster[0], *database, &["SET", &key(name), "old"]).await?;
            }
        }
        Ok(Self {
            home: Home::new()?,
            cluster,
            databases: databases.to_vec(),
        })
    }

    async fn set_slot(&self, server: usize, words: &[&str]) -> Outcome<()> {
        let slot = SLOT.to_string();
        let words: Vec<&str> = ["CLUSTER", "SETSLOT", &slot]
            .iter()
            .chain(words)
            .copied()
            .collect();
        Ok(self.cluster[server].ask::<()>(&words).await?)
    }

    async fn open(&self) -> Outcome<()> {
        let (from, to) = (self.cluster[0].id().await?, self.cluster[1].id().await?);
        self.set_slot(1, &["IMPORTING", &from]).await?;
        self.set_slot(0, &["MIGRATING", &to]).await
    }

    async fn migrate(&self, names: &[&str]) -> Outcome<()> {
        let port = self.cluster[1].port().to_string();
        let keys: Vec<String> = names.iter().map(|name| key(name)).collect();
        for database in &self.databases {
            let number = database.to_string();
            let mut words = vec![
                "MIGRATE",
                self.cluster[1].host(),
                &port,
                "",
                &number,
                "5000",
                "KEYS",
            ];
            words.extend(keys.iter().map(String::as_str));
            ask_in(&self.cluster[0], *database, &words).await?;
        }
        Ok(())
    }

    /// Two of the three keys go to the second primary, and both ends are closed.
    async fn leave_behind(&self) -> Outcome<()> {
        self.open().await?;
        self.migrate(&["k1", "k2"]).await?;
        self.set_slot(0, &["STABLE"]).await?;
        self.set_slot(1, &["STABLE"]).await
    }

    async fn count(&self, server: usize) -> Outcome<u64> {
        let mut all = 0;
        for database in &self.databases {
            let endpoint: Endpoint = self.cluster[server].address().parse()?;
            let access = Access::default();
            let client = Client::connect_to_database(&endpoint, &access, *database).await?;
            all += client
                .count_keys(shardwright_topology::Slot::new(SLOT.into())?)
                .await?;
        }
        Ok(all)
    }

    fn target(&self) -> String {
        self.cluster[2].address()
    }

    fn all(&self) -> u64 {
        self.databases.len() as u64 * 3
    }

    async fn are_found_and_carried(&self) -> Outcome<()> {
        self.leave_behind().await?;
        let target = self.target();
        let stray = self.databases.len() * 2;
        let told = format!("holds {stray} key(s) of slots {SLOT}, which it does not own");
        let remedy = format!("shardwright fix {target}");
        self.home
            .run(&["check", &target])
            .must(1, &["[ERR]", &told, &remedy]);
        self.home
            .run(&["fix", &target])
            .must(0, &["[OK] the cluster is healthy"]);
        assert_eq!(
            (self.count(0).await?, self.count(1).await?),
            (self.all(), 0)
        );
        self.home.run(&["check", &target]).must(0, &["[OK]"]);
        Ok(())
    }

    async fn survive_a_removal(&self) -> Outcome<()> {
        self.leave_behind().await?;
        let leaver = self.cluster[1].address();
        self.home
            .run(&["remove-node", &self.target(), &leaver])
            .must(0, &["[OK]"]);
        assert_eq!(self.count(0).await?, self.all());
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn stray_keys_are_told_and_carried_to_the_owner(engine) {
        StrayKeys::new(&engine, &[0], 0).await?.are_found_and_carried().await
    }
}

each_engine! {
    [valkey_9_1]
    async fn stray_keys_of_every_database_are_carried(engine) {
        StrayKeys::new(&engine, &[0, 1, 3], 0).await?.are_found_and_carried().await
    }
}

each_engine! {
    [valkey_9_1]
    async fn a_node_with_stray_keys_of_every_database_leaves_without_their_loss(engine) {
        StrayKeys::new(&engine, &[0, 1], 0).await?.survive_a_removal().await
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_node_with_stray_keys_leaves_without_their_loss(engine) {
        StrayKeys::new(&engine, &[0], 0).await?.survive_a_removal().await
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_slot_moves_although_its_receiver_holds_keys_of_it(engine) {
        let scene = StrayKeys::new(&engine, &[0], 0).await?;
        scene.leave_behind().await?;
        let (from, to) = (scene.cluster[0].id().await?, scene.cluster[1].id().await?);
        let target = scene.target();
        // So many that it is among them, from whichever end they are taken.
        let many = (16_384 / 4 - SLOT).to_string();
        scene.home
            .run(&["reshard", &target, "--from", &from, "--to", &to, "--slots", &many, "--yes"])
            .must(0, &[&format!("moved {many} of {many} slots")]);
        assert_eq!((scene.count(0).await?, scene.count(1).await?), (0, 3));
        scene.home.run(&["check", &target]).must(0, &["[OK]"]);
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_key_at_both_ends_holds_up_only_itself(engine) {
        let scene = StrayKeys::new(&engine, &[0], 0).await?;
        scene.leave_behind().await?;
        ask_in(&scene.cluster[0], 0, &["SET", &key("k1"), "new"]).await?;
        scene.home.run(&["fix", &scene.target()]).must(1, &[&key("k1"), "Nothing was overwritten"]);
        assert!(ask_in(&scene.cluster[0], 0, &["GET", &key("k1")]).await?.contains(&format!("{:?}", b"new")));
        assert_eq!((scene.count(0).await?, scene.count(1).await?), (3, 1), "k2 went home");
        // The other value is kept as well, and the node that holds it is not removed.
        let port = scene.cluster[1].port();
        let mut connection = scene.cluster[1].connection().await?;
        let there: String = redis::pipe().cmd("ASKING").ignore().cmd("GET").arg(key("k1"))
            .query_async::<(String,)>(&mut connection).await?.0;
        assert_eq!(there, "old", "at {port}");
        scene.home
            .run(&["remove-node", &scene.target(), &scene.cluster[1].address()])
            .must(1, &[&key("k1")]);
        assert_eq!(scene.count(1).await?, 1);
        ask_in(&scene.cluster[0], 0, &["DEL", &key("k1")]).await?;
        scene.home.run(&["fix", &scene.target()]).must(0, &["[OK]"]);
        assert_eq!((scene.count(0).await?, scene.count(1).await?), (3, 0));
        assert!(ask_in(&scene.cluster[0], 0, &["GET", &key("k1")]).await?.contains(&format!("{:?}", b"old")));
        Ok(())
    }
}

each_engine! {
    [valkey_9_1]
    async fn a_slot_half_moved_in_another_database_loses_nothing(engine) {
        let scene = StrayKeys::new(&engine, &[0, 1], 0).await?;
        scene.open().await?;
        // All of database 0 is there, and nothing of database 1.
        let port = scene.cluster[1].port().to_string();
        let names = ["k1", "k2", "k3"].map(key);
        let mut words = vec!["MIGRATE", scene.cluster[1].host(), &port, "", "0", "5000", "KEYS"];
        words.extend(names.iter().map(String::as_str));
        ask_in(&scene.cluster[0], 0, &words).await?;
        scene.home.run(&["fix", &scene.target()]).must(0, &["[OK]"]);
        assert_eq!((scene.count(0).await?, scene.count(1).await?), (0, 6));
        Ok(())
    }
}

each_engine! {
    [valkey_9_1]
    async fn a_server_with_keys_in_another_database_is_not_empty(engine) {
        let server = || Server::builder(&engine).cluster().config("cluster-databases", "2").start();
        let servers = [server()?, server()?, server()?];
        let everything = ["CLUSTER", "ADDSLOTSRANGE", "0", "16383"];
        servers[1].ask::<()>(&everything).await?;
        let served = || async {
            ask_in(&servers[1], 1, &["SET", "k", "v"]).await.map(drop).map_err(|e| e.to_string())
        };
        until("it takes a key", std::time::Duration::from_secs(10), served).await?;
        servers[1].ask::<()>(&["CLUSTER", "DELSLOTSRANGE", "0", "16383"]).await?;
        let home = Home::new()?;
        let addresses = servers.each_ref().map(Server::address);
        let mut words = vec!["create"];
        words.extend(addresses.iter().map(String::as_str));
        let ran = home.run(&words);
        assert_ne!(ran.code, Some(0), "{}{}", ran.out, ran.err);
        assert!(format!("{}{}", ran.out, ran.err).contains("already holds 1 key"), "{}{}", ran.out, ran.err);
        assert!(ask_in(&servers[1], 1, &["DBSIZE"]).await?.contains('1'));
        Ok(())
    }
}

each_engine! {
    [valkey_9_1]
    async fn a_server_with_fewer_databases_copies_nobody_and_is_promoted_by_nobody(engine) {
        let cluster = Cluster::formed(&engine, 3, 0, |b| b.config("cluster-databases", "2")).await?;
        let home = Home::new()?;
        let target = cluster[1].address();
        let few = Server::builder(&engine).cluster().config("cluster-databases", "1").start()?;
        let add = ["add-node", &target, &few.address()];
        home.run(&add).must(3, &["it has 1 databases, and its primary has 2", "cluster-databases 2"]);
        home.run(&["check", &target]).must(0, &["[OK]"]);

        // Others made it a replica.
        let (primary, replica) = (cluster[0].id().await?, few.id().await?);
        cluster[0].ask::<()>(&["CLUSTER", "MEET", "127.0.0.1", &few.port().to_string()]).await?;
        let follows = || async {
            few.ask::<()>(&["CLUSTER", "REPLICATE", &primary]).await.map_err(|e| e.to_string())
        };
        until("it follows", std::time::Duration::from_secs(10), follows).await?;
        let named = || async {
            let ran = home.run(&["check", &target]);
            let told = format!("{}{}", ran.out, ran.err);
            let all = ["has 1 databases, and its primary", "remove-node"].iter().all(|w| told.contains(w));
            if ran.code == Some(1) && all { Ok(()) } else { Err(told) }
        };
        until("check names it", std::time::Duration::from_secs(20), named).await?;
        let ran = home.run(&["failover", &target, &replica, "--yes", "--timeout", "5"]);
        assert_ne!(ran.code, Some(0), "{}{}", ran.out, ran.err);
        let view: String = few.ask(&["CLUSTER", "NODES"]).await?;
        assert_eq!(replicas_of(&view, &primary), 1, "it follows as before");
        Ok(())
    }
}

each_engine! {
    [valkey_9_1]
    async fn a_slot_with_keys_in_two_databases_moves_whole(engine) {
        let scene = StrayKeys::new(&engine, &[0, 1], 0).await?;
        let (from, to) = (scene.cluster[0].id().await?, scene.cluster[1].id().await?);
        let (target, slots) = (scene.target(), format!("{SLOT}-{SLOT}"));
        let words = ["reshard", &target, "--from", &from, "--to", &to, "--slots", &slots];
        scene.home.run(&[&words[..], &["--dry-run"]].concat()).must(0, &["6 keys"]);
        scene.home.run(&[&words[..], &["--yes"]].concat()).must(0, &["[OK]"]);
        assert_eq!((scene.count(0).await?, scene.count(1).await?), (0, 6));
        scene.home.run(&["check", &target]).must(0, &["[OK]"]);
        Ok(())
    }
}

each_engine! {
    [valkey_9_1]
    async fn a_receiver_without_the_databases_of_a_slot_gets_none_of_it(engine) {
        let scene = StrayKeys::new(&engine, &[0, 1], 0).await?;
        let target = scene.target();
        let few = Server::builder(&engine).cluster().config("cluster-databases", "1").start()?;
        scene.home.run(&["add-node", &target, &few.address(), "--primary"]).must(0, &["has joined"]);
        let (from, to) = (scene.cluster[0].id().await?, few.id().await?);
        let slots = format!("{SLOT}-{SLOT}");
        let words = ["reshard", &target, "--from", &from, "--to", &to, "--slots", &slots, "--yes"];
        let ran = scene.home.run(&[&words[..], &["--timeout", "30"]].concat());
        assert_ne!(ran.code, Some(0), "{}{}", ran.out, ran.err);
        assert!(format!("{}{}", ran.out, ran.err).contains("database"), "{}{}", ran.out, ran.err);
        assert_eq!(scene.count(0).await?, 6);
        scene.home.run(&["check", &target]).must(0, &["[OK]"]);
        Ok(())
    }
}
