//! The servers in the pods as a client sees them: who owns what, and whether all agree.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;
use shardwright_topology::wire::{parse_cluster_info, parse_nodes, parse_server_info};
use shardwright_topology::{ClusterInfo, NodeId, Replication, Role, Rows};

use crate::kube_api::{name, text};
use crate::wait::until;
use crate::{Error, Kind, Kube, Result};

/// A server of a healthy cluster on the same machine answers within this, busy or not.
const ASK_LIMIT: Duration = Duration::from_secs(2);
/// A kubelet tells what it sees within some seconds, on a busy machine too.
const RUNNING_LIMIT: Duration = Duration::from_secs(30);
/// All hash slots of a cluster (Redis Cluster specification).
pub const SLOTS: u16 = 16_384;

/// A cluster in pods, ours or made by hand.
#[derive(Clone)]
pub struct Cluster {
    /// Where it runs.
    pub kube: Kube,
    /// Its namespace.
    pub namespace: String,
    /// Its name: that of the object, the stateful set and the headless service.
    pub name: String,
    /// Which pods are its servers.
    pub selector: String,
    /// Whom the cases log in as.
    pub login: (String, String),
}

/// A pod, as far as the cases look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Changes when it is made anew.
    pub uid: String,
    /// Its address, once it has one.
    pub ip: Option<String>,
    /// The Kubernetes node it is on.
    pub host: String,
    /// Whether its probe says that it can serve.
    pub ready: bool,
    /// Whether it is being deleted.
    pub leaving: bool,
    /// How often the server's container was started again.
    pub restarts: u64,
    /// The running container of the server, `containerd://…`.
    pub container: String,
}

impl Pod {
    fn read(object: &Value) -> Self {
        let list = |pointer: &str| object.pointer(pointer).and_then(Value::as_array);
        let server = list("/status/containerStatuses")
            .and_then(|all| all.iter().find(|c| text(c, "/name") == CONTAINER));
        let ready = list("/status/conditions").is_some_and(|all| {
            all.iter()
                .any(|c| text(c, "/type") == "Ready" && text(c, "/status") == "True")
        });
        Self {
            name: name(object).to_owned(),
            uid: text(object, "/metadata/uid").to_owned(),
            ip: Some(text(object, "/status/podIP"))
                .filter(|ip| !ip.is_empty())
                .map(str::to_owned),
            host: text(object, "/spec/nodeName").to_owned(),
            ready,
            leaving: object.pointer("/metadata/deletionTimestamp").is_some(),
            restarts: server
                .and_then(|c| c.pointer("/restartCount"))
                .and_then(Value::as_u64)
                .unwrap_or(0),
            container: server.map_or("", |c| text(c, "/containerID")).to_owned(),
        }
    }

    /// `IP:6379`, once it has an address.
    #[must_use]
    pub fn address(&self) -> Option<String> {
        self.ip.as_ref().map(|ip| format!("{ip}:6379"))
    }
}

/// The container of the server, here and in the manifests by hand.
pub const CONTAINER: &str = "redis";

/// What one server says.
#[derive(Clone, Debug)]
pub struct View {
    /// The pod it runs in.
    pub pod: Pod,
    /// Its id.
    pub id: NodeId,
    /// What it says of the cluster.
    pub cluster: ClusterInfo,
    /// What it says of each member.
    pub rows: Rows,
    /// What it says of its replication.
    pub replication: Replication,
    /// Its keys.
    pub keys: u64,
    /// Changes with every start of the process.
    pub run_id: String,
}

/// One shard of an agreed cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// First and last slot of each range it owns.
    pub slots: Vec<(u16, u16)>,
    /// The primary's pod.
    pub primary: Pod,
    /// The replicas' pods.
    pub replicas: Vec<Pod>,
}

impl Cluster {
    /// A cluster of ours; its administrator's password from the Secret the operator made.
    pub async fn ours(kube: &Kube, namespace: &str, cluster: &str) -> Result<Self> {
        let mut this = Self {
            kube: kube.clone(),
            namespace: namespace.to_owned(),
            name: cluster.to_owned(),
            selector: format!("app.kubernetes.io/instance={cluster}"),
            login: ("default".to_owned(), String::new()),
        };
        this.login.1 = this.password("default").await?;
        Ok(this)
    }

    /// The generated password of a user.
    pub async fn password(&self, user: &str) -> Result<String> {
        let secret = format!("{}-passwords", self.name);
        let found = self
            .kube
            .must(Kind::SECRET, &self.namespace, &secret)
            .await?;
        let encoded = text(&found, &format!("/data/{user}")).to_owned();
        crate::error::ensure(!encoded.is_empty(), || {
            format!("Secret {secret} has no password of {user}")
        })?;
        decode_base64(&encoded)
    }

    /// The pods of its servers, by name.
    pub async fn pods(&self) -> Result<Vec<Pod>> {
        let listed = self
            .kube
            .list(Kind::POD, &self.namespace, &self.selector)
            .await?;
        let mut pods: Vec<_> = listed
            .iter()
            .filter(|pod| {
                pod.pointer("/spec/containers")
                    .and_then(Value::as_array)
                    .is_some_and(|all| all.iter().any(|c| text(c, "/name") == CONTAINER))
            })
            .map(Pod::read)
            .collect();
        pods.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(pods)
    }

    /// One of its pods.
    pub async fn pod(&self, pod: &str) -> Result<Pod> {
        let found = self.kube.must(Kind::POD, &self.namespace, pod).await?;
        Ok(Pod::read(&found))
    }

    /// A pod of which it is told which container runs in it: a kubelet may tell that after the server has answered.
    pub async fn running_pod(&self, pod: &str) -> Result<Pod> {
        let told = format!("{pod} is told to run");
        let found = until(&told, RUNNING_LIMIT, || async {
            let found = self.pod(pod).await?;
            let runs = !found.container.is_empty();
            Ok(runs.then_some(found).ok_or("no container of it".to_owned()))
        });
        Ok(found.await?.0)
    }

    /// Where its servers are now.
    pub async fn addresses(&self) -> Result<Vec<String>> {
        Ok(self.pods().await?.iter().filter_map(Pod::address).collect())
    }

    /// Sends one command to one server, as the administrator.
    pub async fn ask<T: redis::FromRedisValue>(&self, address: &str, words: &[&str]) -> Result<T> {
        ask_as(address, Some(&self.login), words).await
    }

    /// What the server in a pod says.
    pub async fn view(&self, pod: &Pod) -> Result<View> {
        let Some(address) = pod.address() else {
            return Error::wrong(format!("{} has no address", pod.name));
        };
        let unread = |what: &str, why: &dyn std::fmt::Display| Error::Text {
            what: format!("{what} of {}", pod.name),
            why: why.to_string(),
        };
        let mut connection = connect(&address, Some(&self.login)).await?;
        let mut read = async |words: &[&str]| -> Result<Vec<u8>> {
            ask_on(&mut connection, &address, words).await
        };
        let rows = read(&["CLUSTER", "NODES"]).await?;
        let info = read(&["CLUSTER", "INFO"]).await?;
        let server = read(&["INFO"]).await?;
        let rows = parse_nodes(&rows).map_err(|e| unread("CLUSTER NODES", &e))?;
        let server = parse_server_info(&server).map_err(|e| unread("INFO", &e))?;
        let own = rows.myself().map(|row| row.id);
        Ok(View {
            pod: pod.clone(),
            id: own.ok_or_else(|| unread("CLUSTER NODES", &"no row of its own"))?,
            cluster: parse_cluster_info(&info).map_err(|e| unread("CLUSTER INFO", &e))?,
            rows,
            replication: server.replication,
            keys: server.keys,
            run_id: server.run_id,
        })
    }

    /// What every server says; an error for one that does not answer.
    pub async fn views(&self) -> Result<Vec<Result<View>>> {
        let pods = self.pods().await?;
        Ok(join_all(pods.iter().map(|pod| self.view(pod))).await)
    }

    /// The shards, where every one of `count` servers answers, says ok, knows exactly the others,
    /// agrees with all on every owner and every role, and every replica follows. Else why not.
    pub async fn agreed(&self, count: usize) -> Result<std::result::Result<Vec<Shard>, String>> {
        let views = self.views().await?;
        let mut good = Vec::new();
        for view in views {
            match view {
                Ok(view) => good.push(view),
                Err(error) => return Ok(Err(error.with_causes())),
            }
        }
        Ok(if good.len() == count {
            shards_of(&good)
        } else {
            Err(format!("{} of {count} pods", good.len()))
        })
    }

    /// Waits until the cluster is whole and agreed; see [`Cluster::agreed`].
    pub async fn until_agreed(
        &self,
        count: usize,
        limit: Duration,
    ) -> Result<(Vec<Shard>, Duration)> {
        let what = format!("{}/{} is whole and agreed", self.namespace, self.name);
        until(&what, limit, || self.agreed(count)).await
    }

    /// Waits until every one of `count` pods' servers says that the cluster serves.
    pub async fn until_ok(&self, count: usize, limit: Duration) -> Result<Duration> {
        let what = format!("{}/{} says ok everywhere", self.namespace, self.name);
        let ((), took) = until(&what, limit, || async {
            let pods = self.pods().await?;
            let states = join_all(pods.iter().map(|pod| self.says_ok(pod))).await;
            let ok = states
                .iter()
                .filter(|state| matches!(state, Ok(true)))
                .count();
            let failed = states.into_iter().find_map(std::result::Result::err);
            Ok(if ok == count && pods.len() == count {
                Ok(())
            } else {
                let why = failed.map_or(String::new(), |e| format!("; {}", e.with_causes()));
                Err(format!("{ok} of {count} say ok{why}"))
            })
        })
        .await?;
        Ok(took)
    }

    async fn says_ok(&self, pod: &Pod) -> Result<bool> {
        let Some(address) = pod.address() else {
            return Error::wrong(format!("{} has no address", pod.name));
        };
        let info: Vec<u8> = self.ask(&address, &["CLUSTER", "INFO"]).await?;
        let info = parse_cluster_info(&info).map_err(|e| Error::Text {
            what: format!("CLUSTER INFO of {}", pod.name),
            why: e.to_string(),
        })?;
        Ok(info.state_ok && info.slots_assigned == SLOTS)
    }
}

/// The shards of views that agree; else the first disagreement.
fn shards_of(views: &[View]) -> std::result::Result<Vec<Shard>, String> {
    let ids: BTreeMap<NodeId, &View> = views.iter().map(|view| (view.id, view)).collect();
    let mut shards: BTreeMap<NodeId, Shard> = BTreeMap::new();
    for view in views {
        let pod = &view.pod.name;
        if !view.cluster.state_ok || view.cluster.slots_assigned != SLOTS {
            return Err(format!("{pod} says that the cluster does not serve"));
        }
        let known: BTreeSet<_> = view.rows.iter().map(|row| row.id).collect();
        if known != ids.keys().copied().collect() {
            return Err(format!(
                "{pod} knows {} members of {}",
                known.len(),
                ids.len()
            ));
        }
        let Some(own) = view.rows.myself() else {
            return Err(format!("{pod} has no row of its own"));
        };
        if own.role == Role::Primary {
            let slots = own.slots.ranges().iter();
            let slots = slots.map(|range| (range.first().number(), range.last().number()));
            let shard = Shard {
                slots: slots.collect(),
                primary: view.pod.clone(),
                replicas: Vec::new(),
            };
            shards.insert(view.id, shard);
        }
    }
    for view in views {
        for row in &view.rows {
            let own = ids.get(&row.id).and_then(|other| other.rows.myself());
            let own = own.ok_or("a member without a row")?;
            let same = row.role == own.role && row.slots == own.slots && row.primary == own.primary;
            if !same {
                return Err(format!(
                    "{} disagrees about {}",
                    view.pod.name,
                    row.id.short()
                ));
            }
            if row.address.host.ip().map(|ip| ip.to_string())
                != ids.get(&row.id).and_then(|v| v.pod.ip.clone())
            {
                return Err(format!(
                    "{} has an old address of {}",
                    view.pod.name,
                    row.id.short()
                ));
            }
        }
        if let Replication::Replica { link_up, .. } = view.replication {
            if !link_up {
                return Err(format!("{} is not in sync", view.pod.name));
            }
            let primary = view.rows.myself().and_then(|own| own.primary);
            let shard = primary.and_then(|id| shards.get_mut(&id));
            let shard = shard.ok_or_else(|| format!("{} replicates a replica", view.pod.name))?;
            shard.replicas.push(view.pod.clone());
        }
    }
    let mut shards: Vec<_> = shards.into_values().collect();
    shards.sort_by(|a, b| a.slots.cmp(&b.slots));
    Ok(shards)
}

/// A connection to one server, logged in or not.
pub async fn connect(
    address: &str,
    login: Option<&(String, String)>,
) -> Result<redis::aio::MultiplexedConnection> {
    use redis::IntoConnectionInfo as _;
    let failed = |source| Error::Redis {
        command: "connect".to_owned(),
        address: address.to_owned(),
        source,
    };
    let mut info = format!("redis://{address}/")
        .into_connection_info()
        .map_err(failed)?;
    if let Some((user, password)) = login {
        let settings = info
            .redis_settings()
            .clone()
            .set_username(user)
            .set_password(password);
        info = info.set_redis_settings(settings);
    }
    let config = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(ASK_LIMIT))
        .set_response_timeout(Some(ASK_LIMIT));
    let client = redis::Client::open(info).map_err(failed)?;
    client
        .get_multiplexed_async_connection_with_config(&config)
        .await
        .map_err(failed)
}

async fn ask_on<T: redis::FromRedisValue>(
    connection: &mut redis::aio::MultiplexedConnection,
    address: &str,
    words: &[&str],
) -> Result<T> {
    let mut command = redis::Cmd::new();
    for word in words {
        command.arg(word);
    }
    command
        .query_async(connection)
        .await
        .map_err(|source| Error::Redis {
            command: words.join(" "),
            address: address.to_owned(),
            source,
        })
}

/// Sends one command to one server as somebody, or as nobody.
pub async fn ask_as<T: redis::FromRedisValue>(
    address: &str,
    login: Option<&(String, String)>,
    words: &[&str],
) -> Result<T> {
    let mut connection = connect(address, login).await?;
    ask_on(&mut connection, address, words).await
}

/// The text in a Secret's base64, as RFC 4648 has it.
fn decode_base64(encoded: &str) -> Result<String> {
    let broken = || Error::Text {
        what: "a Secret".to_owned(),
        why: "it is no base64 of a text".to_owned(),
    };
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for symbol in encoded.bytes().filter(|symbol| *symbol != b'=') {
        let six = match symbol {
            b'A'..=b'Z' => symbol - b'A',
            b'a'..=b'z' => symbol - b'a' + 26,
            b'0'..=b'9' => symbol - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return Err(broken()),
        };
        bits = (bits << 6 | u32::from(six)) & 0xFF_FFFF;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xFF).map_err(|_| broken())?);
        }
    }
    String::from_utf8(bytes).map_err(|_| broken())
}
