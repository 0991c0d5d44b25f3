//! Servers that lost their table of nodes, or were reset, in a cluster that `create` made: what `check` prints repairs it,
//! pasted as it is, and no key is lost by it.

use std::time::Duration;

use shardwright_testkit::{
    Cluster, Engine, Load, LoadOptions, Persistence, Report, ServerBuilder, each_engine, until,
};

use shardwright_topology::Role;

use crate::rig::{Home, Ran, args, standing};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const LIMIT: Duration = Duration::from_secs(30);

/// A cluster that `create` made of servers that are not ours, with keys that are on their disks.
struct Created {
    home: Home,
    cluster: Cluster,
    written: Report,
}

impl Created {
    async fn new(engine: &Engine, replicas: usize) -> Outcome<Self> {
        let home = Home::new()?;
        let adjust = |builder: ServerBuilder| {
            builder
                .persistence(Persistence::AofAlways)
                .config("cluster-node-timeout", "5000")
                .config("cluster-allow-replica-migration", "no")
        };
        let cluster = Cluster::start(engine, 3 * (replicas + 1), adjust)?;
        let many = replicas.to_string();
        let words = ["create", "--replicas", &many, "--yes"];
        home.run(&args(&words, &cluster.addresses()))
            .must(0, &["nodes agree"]);
        let load = Load::start(&cluster.addresses(), LoadOptions::default());
        load.until_more(600, LIMIT).await?;
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

    /// A server loses its table of nodes, and comes back with its data at its address.
    fn lose_table(&mut self, server: usize) -> Outcome<()> {
        self.cluster[server].kill9()?;
        std::fs::remove_file(self.cluster[server].dir().join("nodes.conf"))?;
        Ok(self.cluster[server].restart()?)
    }

    /// Waits until all others have noticed that nobody answers as this node any more.
    async fn until_noticed(&self, id: &str) -> Outcome<()> {
        let gone = |row: &str| row.starts_with(id) && !row.contains("noaddr");
        self.cluster
            .until_views("its old id has no address", |view| !view.lines().any(gone))
            .await?;
        Ok(())
    }

    /// The command that `check` advises once it says these words, as it is printed. An address that it leaves open is
    /// this server's.
    async fn advised(&self, words: &[&str], verb: &str, server: usize) -> Outcome<Vec<String>> {
        let begins = format!("shardwright {verb} {}", self.target());
        let advised = || async {
            let ran = self.home.run(&["check", &self.target()]);
            let found = ran.out.find(&begins).map(|at| ran.out[at..].to_owned());
            let all = words.iter().all(|word| ran.out.contains(word));
            found.filter(|_| all).ok_or(ran.out + &ran.err)
        };
        let (told, _) = until("check names it, and what repairs it", LIMIT, advised).await?;
        let line = told.lines().next().unwrap_or_default();
        let here = self.cluster[server].address();
        let parts = line.split(' ').skip(1);
        // The command ends where the sentence goes on: its words are a verb, nodes and flags.
        let is_part = |at: usize, word: &str| {
            at == 0 || word.contains(':') || word.starts_with("--") || word.len() == 40
        };
        let parts = parts
            .enumerate()
            .take_while(|(at, word)| is_part(*at, word));
        let fill = |word: &str| word.replace("HOST:PORT", &here);
        Ok(parts.map(|(_, word)| fill(word)).collect())
    }

    fn paste(&self, command: &[String]) -> Ran {
        self.home.run(&args(&[], command))
    }

    /// The id that nobody has any more is taken out, as `check` says.
    async fn forgotten(&self, id: &str) -> Outcome<()> {
        let words = ["[ERR]", "is listed, but it is not known where it lives"];
        let remove = self.advised(&words, "remove-node", 0).await?;
        assert!(remove.contains(&id.to_owned()), "{remove:?}");
        self.paste(&remove).must(0, &["has left"]);
        Ok(())
    }

    /// A server with keys does not join; what they are is said, and it is emptied, as is told.
    async fn emptied(&self, server: usize) -> Outcome<()> {
        let keys: u64 = self.cluster[server].ask(&["DBSIZE"]).await?;
        assert!(keys > 0, "it has its file");
        let add = self
            .advised(&["has no live replica"], "add-node", server)
            .await?;
        let told = format!(
            "it already holds {keys} key(s); if nobody needs that, empty it first (FLUSHALL, CLUSTER RESET HARD)"
        );
        self.paste(&add).must(3, &[&told]);
        assert_eq!(self.cluster[server].ask::<u64>(&["DBSIZE"]).await?, keys);
        self.cluster[server].ask::<()>(&["FLUSHALL"]).await?;
        Ok(self.cluster[server]
            .ask::<()>(&["CLUSTER", "RESET", "HARD"])
            .await?)
    }

    /// A replica has become the primary. The server of the old one is let in again, as `check` says.
    async fn replaced(&self, id: &str, old: usize, new: usize) -> Outcome<()> {
        let promoted = || async {
            match standing(&self.cluster[new]).await {
                Ok(found) if found.role == Role::Primary => Ok(()),
                other => Err(format!("{other:?}")),
            }
        };
        until("the replica is the primary", LIMIT, promoted).await?;
        let lost = self.written.lost(&[self.cluster[new].address()]).await?;
        assert_eq!(lost, [], "of {}", self.written.acked());
        self.forgotten(id).await?;
        self.emptied(old).await?;
        self.let_in(old).await?;
        self.well().await
    }

    /// A server whose node nobody knows any more is let in as `check` says, as a replica of the only shard without one.
    async fn let_in(&self, server: usize) -> Outcome<()> {
        let add = self
            .advised(&["has no live replica"], "add-node", server)
            .await?;
        self.paste(&add).must(0, &["has joined"]);
        let joined = standing(&self.cluster[server]).await?;
        assert_eq!((joined.role, joined.link_up), (Role::Replica, Some(true)));
        Ok(())
    }

    /// Every key is there, and no problem is left.
    async fn well(&self) -> Outcome<()> {
        let lost = self.written.lost(&self.cluster.addresses()).await?;
        assert_eq!(lost, [], "of {}", self.written.acked());
        let nodes = format!("[OK] {} nodes agree", self.cluster.servers.len());
        self.home
            .run(&["check", &self.target()])
            .must(0, &[&nodes])
            .without(&["[ERR]", "has no live replica"]);
        Ok(())
    }
}

// Valkey 9.1 holds the old id to have failed: see the next.
each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn what_check_prints_takes_a_primary_without_its_table_in_with_its_data(engine) {
        let mut scene = Created::new(&engine, 0).await?;
        let id = scene.cluster[0].id().await?;
        scene.lose_table(0)?;
        scene.until_noticed(&id).await?;
        let words = ["[ERR]", "lost its nodes.conf", "do not empty the server that has its data"];
        let add = scene.advised(&words, "add-node", 0).await?;
        scene.home.run(&["check", &scene.target()]).must(1, &[]).without(&["FLUSHALL", "RESET", "--accept-data-loss"]);
        let fix = scene.home.run(&["fix", &scene.target(), "--timeout", "5"]);
        fix.must(3, &["a person has to decide"]).without(&["forget", "give slots", "FLUSHALL"]);
        scene.paste(&add).must(0, &["is taken in with its data", "[OK]"]);
        scene.well().await
    }
}

// Valkey 9.1 promotes by itself.
each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0]
    async fn what_check_prints_puts_a_replica_in_the_place_of_a_primary_without_its_table(engine) {
        let mut scene = Created::new(&engine, 1).await?;
        let (id, replica) = (scene.cluster[0].id().await?, scene.cluster[3].id().await?);
        scene.lose_table(0)?;
        scene.until_noticed(&id).await?;
        let words = ["[ERR]", "lost its nodes.conf", &replica];
        let promote = scene.advised(&words, "failover", 0).await?;
        scene.home.run(&["check", &scene.target()]).must(1, &[]).without(&["FLUSHALL", "RESET", "--accept-data-loss"]);
        scene.paste(&promote).must(0, &["is the primary"]);
        scene.replaced(&id, 0, 3).await
    }
}

each_engine! {
    [valkey_9_1]
    async fn a_primary_without_its_table_is_replaced_by_the_engine_and_let_in_again(engine) {
        let mut scene = Created::new(&engine, 1).await?;
        let id = scene.cluster[0].id().await?;
        scene.lose_table(0)?;
        scene.until_noticed(&id).await?;
        scene.replaced(&id, 0, 3).await
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_replica_that_was_reset_is_let_in_again_by_what_check_prints(engine) {
        let scene = Created::new(&engine, 1).await?;
        let id = scene.cluster[3].id().await?;
        scene.cluster[3].ask::<()>(&["CLUSTER", "RESET", "HARD"]).await?;
        let keys: u64 = scene.cluster[3].ask(&["DBSIZE"]).await?;
        assert_eq!(keys, 0, "a replica drops its copy");
        scene.until_noticed(&id).await?;
        scene.forgotten(&id).await?;
        scene.let_in(3).await?;
        scene.well().await
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_replica_without_its_table_is_emptied_only_where_its_keys_are_served(engine) {
        let mut scene = Created::new(&engine, 1).await?;
        let id = scene.cluster[3].id().await?;
        scene.lose_table(3)?;
        scene.until_noticed(&id).await?;
        scene.forgotten(&id).await?;
        scene.emptied(3).await?;
        scene.let_in(3).await?;
        scene.well().await
    }
}
