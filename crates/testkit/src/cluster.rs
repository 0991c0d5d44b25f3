//! Several servers at once, and the shortest way to a formed cluster.

use std::ops::{Index, IndexMut};
use std::time::Duration;

use crate::server::{Server, ServerBuilder};
use crate::slots::COUNT;
use crate::wait::until;
use crate::{Engine, Error};

/// A formed cluster agrees within this, also on a busy machine.
const FORM_LIMIT: Duration = Duration::from_secs(20);

/// Servers in cluster mode, in the order they were started.
#[derive(Debug)]
pub struct Cluster {
    /// The servers.
    pub servers: Vec<Server>,
    shards: usize,
}

impl Index<usize> for Cluster {
    type Output = Server;

    fn index(&self, index: usize) -> &Server {
        &self.servers[index]
    }
}

impl IndexMut<usize> for Cluster {
    fn index_mut(&mut self, index: usize) -> &mut Server {
        &mut self.servers[index]
    }
}

impl Cluster {
    /// Starts `count` empty nodes, all at once. `adjust` adds to each one's builder.
    pub fn start(
        engine: &Engine,
        count: usize,
        adjust: impl Fn(ServerBuilder) -> ServerBuilder,
    ) -> Result<Self, Error> {
        let mut servers = (0..count)
            .map(|_| adjust(Server::builder(engine).cluster()).spawn())
            .collect::<Result<Vec<_>, _>>()?;
        servers.iter_mut().try_for_each(Server::wait_ready)?;
        Ok(Self { servers, shards: 0 })
    }

    /// Starts and forms `shards` shards with `replicas` replicas each: the first `shards`
    /// servers are the primaries, server `shards + i` is a replica of server `i % shards`.
    /// Returns when every node says ok, every view has every role, and replicas are synced.
    pub async fn formed(
        engine: &Engine,
        shards: usize,
        replicas: usize,
        adjust: impl Fn(ServerBuilder) -> ServerBuilder,
    ) -> Result<Self, Error> {
        Self::formed_above(engine, shards, replicas, 0, adjust).await
    }

    /// The same with config epochs above this one: above those of another cluster, which it is to win against.
    pub async fn formed_above(
        engine: &Engine,
        shards: usize,
        replicas: usize,
        epoch: usize,
        adjust: impl Fn(ServerBuilder) -> ServerBuilder,
    ) -> Result<Self, Error> {
        let quick = |builder: ServerBuilder| {
            adjust(
                builder
                    .config("cluster-node-timeout", "5000")
                    .config("repl-diskless-sync-delay", "0")
                    .config("cluster-allow-replica-migration", "no"),
            )
        };
        let mut cluster = Self::start(engine, shards * (replicas + 1), quick)?;
        cluster.form_above(shards, epoch).await?;
        Ok(cluster)
    }

    /// Forms the started, empty nodes into `shards` shards; see [`Cluster::formed`].
    pub async fn form(&mut self, shards: usize) -> Result<(), Error> {
        self.form_above(shards, 0).await
    }

    async fn form_above(&mut self, shards: usize, epoch: usize) -> Result<(), Error> {
        self.shards = shards;
        for (at, server) in self.servers.iter().enumerate() {
            let epoch = (epoch + at + 1).to_string();
            server
                .ask::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch])
                .await?;
        }
        for shard in 0..shards {
            let (first, last) = self.slots(shard);
            let (first, last) = (first.to_string(), last.to_string());
            self[shard]
                .ask::<()>(&["CLUSTER", "ADDSLOTSRANGE", &first, &last])
                .await?;
        }
        self.meet_all().await?;
        self.until_known().await?;
        for at in shards..self.servers.len() {
            let primary = self[at % shards].id().await?;
            self[at]
                .ask::<()>(&["CLUSTER", "REPLICATE", &primary])
                .await?;
        }
        // Views learn the new roles by pings of whole seconds, or at once by being met.
        self.meet_all().await?;
        self.until_agreed().await?;
        self.until_shard_ids_agree().await
    }

    /// Waits until every node groups the nodes as they follow one another. Redis 7.2 to 7.4 and Valkey up to 8.1 refuse a
    /// table in which a replica has another shard id than its primary, and write it when they end before they heard it.
    async fn until_shard_ids_agree(&self) -> Result<(), Error> {
        until("shard ids agree", FORM_LIMIT, || async {
            for server in &self.servers {
                let shards = server
                    .ask::<Vec<redis::Value>>(&["CLUSTER", "SHARDS"])
                    .await;
                let count = shards.map_err(|e| e.to_string())?.len();
                if count != self.shards {
                    return Err(format!("{} sees {count} shards", server.address()));
                }
            }
            Ok(())
        })
        .await?;
        Ok(())
    }

    /// First and last slot of a shard, as redis-cli lays them out.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "slots are below 16384"
    )]
    #[expect(clippy::cast_precision_loss, reason = "shards are few")]
    pub fn slots(&self, shard: usize) -> (u16, u16) {
        let per_shard = f64::from(COUNT) / self.shards.max(1) as f64;
        let begin = |shard: usize| (shard as f64 * per_shard).round() as u16;
        let last = if shard + 1 == self.shards {
            COUNT - 1
        } else {
            begin(shard + 1) - 1
        };
        (begin(shard), last)
    }

    /// Every server meets every other one, at its present address.
    pub async fn meet_all(&self) -> Result<(), Error> {
        for from in &self.servers {
            let mut connection = from.connection().await?;
            for to in self
                .servers
                .iter()
                .filter(|to| to.address() != from.address())
            {
                let port = to.port().to_string();
                let words = ["CLUSTER", "MEET", to.host(), &port];
                crate::server::ask_on::<()>(&mut connection, &from.address(), &words).await?;
            }
        }
        Ok(())
    }

    /// Waits until every view lists every node, linked, and no handshake; returns how long it took.
    ///
    /// A node may be listed before there is a link to it, and a MEET of a known node replaces the link: until it is
    /// dialled, a vote is not asked for there, and a switchover is refused.
    pub async fn until_known(&self) -> Result<Duration, Error> {
        let count = self.servers.len();
        self.until_views("every node knows every node", |view| {
            let rows = view.lines().count();
            let unfinished = ["handshake", "noaddr", " disconnected"];
            rows == count && !unfinished.iter().any(|word| view.contains(word))
        })
        .await
    }

    /// Waits until all views have the same roles and slots, say ok, and replicas are synced.
    pub async fn until_agreed(&self) -> Result<(), Error> {
        until("the cluster agrees", FORM_LIMIT, || async {
            let mut shapes = Vec::new();
            for server in &self.servers {
                let state = server.field(&["CLUSTER", "INFO"], "cluster_state").await;
                if !matches!(&state, Ok(Some(ok)) if ok == "ok") {
                    return Err(format!("{}: {state:?}", server.address()));
                }
                let link = server
                    .field(&["INFO", "replication"], "master_link_status")
                    .await;
                if matches!(&link, Ok(Some(link)) if link != "up") {
                    return Err(format!("{}: link {link:?}", server.address()));
                }
                let view: String = server
                    .ask(&["CLUSTER", "NODES"])
                    .await
                    .map_err(|e| e.to_string())?;
                // A MEET of a known node replaces the link to it, and some commands want the link.
                if view.contains(" disconnected") {
                    return Err(format!("{} sees\n{view}", server.address()));
                }
                shapes.push(shape(&view));
            }
            let all = shapes
                .first()
                .is_some_and(|first| first.len() == self.servers.len());
            if all && shapes.windows(2).all(|pair| pair[0] == pair[1]) {
                Ok(())
            } else {
                Err(format!("{shapes:?}"))
            }
        })
        .await
        .map(|_| ())
    }

    /// Waits until `CLUSTER NODES` of every running server satisfies `right`.
    pub async fn until_views(
        &self,
        what: &str,
        right: impl Fn(&str) -> bool,
    ) -> Result<Duration, Error> {
        let limit = Duration::from_secs(60);
        let ((), took) = until(what, limit, || async {
            for server in self.servers.iter().filter(|server| server.pid().is_some()) {
                let view: String = server
                    .ask(&["CLUSTER", "NODES"])
                    .await
                    .map_err(|e| e.to_string())?;
                if !right(&view) {
                    return Err(format!("{} sees\n{view}", server.address()));
                }
            }
            Ok(())
        })
        .await?;
        Ok(took)
    }

    /// Waits until every running server says `cluster_state:ok`; returns how long it took.
    pub async fn until_ok(&self) -> Result<Duration, Error> {
        let limit = Duration::from_secs(60);
        let ((), took) = until("every node says cluster_state:ok", limit, || async {
            for server in self.servers.iter().filter(|server| server.pid().is_some()) {
                let state = server
                    .field(&["CLUSTER", "INFO"], "cluster_state")
                    .await
                    .map_err(|e| e.to_string())?;
                if state.as_deref() != Some("ok") {
                    return Err(format!("{}: {state:?}", server.address()));
                }
            }
            Ok(())
        })
        .await?;
        Ok(took)
    }

    /// `HOST:PORT` of all servers.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.servers.iter().map(Server::address).collect()
    }
}

/// What must be the same in every view: id, role, whose replica, slots.
fn shape(view: &str) -> Vec<String> {
    let mut rows: Vec<String> = view
        .lines()
        .map(|row| {
            let words: Vec<_> = row.split(' ').collect();
            let word = |at: usize| words.get(at).copied().unwrap_or("?");
            let role = word(2).replace("myself,", "");
            let slots = words
                .get(8..)
                .map(|slots| slots.join(" "))
                .unwrap_or_default();
            format!("{} {role} {} {slots}", word(0), word(3))
        })
        .collect();
    rows.sort();
    rows
}
