//! Real servers as a world for scripts: the local runtime, with its keeper.

use std::path::PathBuf;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use shardwright_engine::{Access, Client, Endpoint, Migrate, Reset, SetSlot};
use shardwright_manifest::Cluster;
use shardwright_planner::{Consent, Desired, Limits, Manner, Request, Waiting};
use shardwright_runtime::{End, Keeper, Links, Runtime};
use shardwright_runtime_local::{EngineChoice, Identity, Local, Options, find_engine};
use shardwright_sim::script::{Form, Moved, World};
use shardwright_testkit::ports::Lease;
use shardwright_testkit::slots::{slot_of, tag_for};
use shardwright_topology::{NodeId, Observed, ServerName, Slot, SlotSet};

/// How long a cluster may take to settle. The engines' own locks take 20 s at this node-timeout; most need 3 s.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);
/// A killed process is gone within milliseconds; on a machine that is far too busy it has to wait for its turn.
const GONE_LIMIT: Duration = Duration::from_secs(30);
/// How long replicas may take to confirm what was written.
const WAIT_LIMIT: Duration = Duration::from_secs(3);
const NODE_TIMEOUT_MS: u64 = 5_000;

/// A cluster of this machine, in a directory of its own.
pub(crate) struct Real {
    tokio: tokio::runtime::Runtime,
    dir: tempfile::TempDir,
    engine: PathBuf,
    ports: Vec<Lease>,
    keeper: Option<Keeper<Local>>,
    manifest: String,
    written: Vec<String>,
    replicas: u16,
}

impl Real {
    pub(crate) fn new(engine: &shardwright_testkit::Engine) -> Result<Self, String> {
        let tokio = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        Ok(Self {
            tokio: tokio.map_err(text)?,
            dir: tempfile::tempdir().map_err(text)?,
            engine: engine.path.clone(),
            ports: Vec::new(),
            keeper: None,
            manifest: String::new(),
            written: Vec::new(),
            replicas: 0,
        })
    }

    /// Opens the cluster on other ports than before; the servers must be down.
    fn open(&mut self) -> Result<(), String> {
        self.keeper = None;
        let cluster = Cluster::from_text(&self.manifest).map_err(text)?.cluster;
        let count = cluster.nodes();
        let count = u16::try_from(count).map_err(text)?;
        // They stay leased until the world ends, so that no stranger appears at an old address.
        let leases = Lease::take_row(count).map_err(text)?;
        let port = leases.first().map(Lease::port);
        self.ports.extend(leases);
        let engine = find_engine(&EngineChoice::Path(self.engine.clone())).map_err(text)?;
        let desired = cluster.desired();
        let options = Options {
            port,
            secrets: None,
        };
        let _inside = self.tokio.enter();
        let dir = self.dir.path().join("cluster");
        let opened = Local::make(&dir, &self.manifest, cluster, &engine, &options).map_err(text)?;
        let links = Links::new(opened.local.access(), None);
        let limits = Limits {
            node_timeout_ms: NODE_TIMEOUT_MS,
            ..Limits::default()
        };
        self.keeper = Some(Keeper::new(opened.local, links, desired, limits));
        Ok(())
    }

    fn keeper(&self) -> Result<&Keeper<Local>, String> {
        self.keeper
            .as_ref()
            .ok_or_else(|| "form comes first".to_owned())
    }

    fn desire(&mut self, change: impl FnOnce(Desired) -> Desired) -> Result<(), String> {
        let keeper = self.keeper.as_mut().ok_or("form comes first")?;
        let desired = change(keeper.desired().clone());
        keeper.set_desired(desired);
        Ok(())
    }

    /// Runs `work` with the client of a server, logged in as the administrator: scripts may break what we may not.
    fn at<T, F>(&self, name: &str, work: F) -> Result<T, String>
    where
        F: AsyncFnOnce(Client) -> Result<T, shardwright_engine::Error>,
    {
        let (endpoint, access) = (self.endpoint(name)?, self.admin()?);
        self.tokio
            .block_on(async { work(Client::connect(&endpoint, &access).await?).await })
            .map_err(text)
    }

    fn endpoint(&self, name: &str) -> Result<Endpoint, String> {
        let local = self.keeper()?.runtime();
        let note = local
            .state()
            .servers
            .get(&real_name(name))
            .ok_or_else(|| format!("no server {name}"))?;
        Ok(Endpoint::from(&local.address_of(note)))
    }

    fn admin(&self) -> Result<Access, String> {
        let password = std::fs::read_to_string(self.keeper()?.runtime().password_file("default"))
            .map_err(text)?;
        let credentials = shardwright_engine::Credentials {
            user: Some("default".to_owned()),
            password: shardwright_engine::Secret::new(password),
        };
        Ok(Access {
            credentials: Some(credentials),
            ..Access::default()
        })
    }

    fn signal(
        &self,
        name: &str,
        signal: rustix::process::Signal,
    ) -> Result<Option<Identity>, String> {
        let process = self
            .keeper()?
            .runtime()
            .process_of(&real_name(name))
            .map_err(text)?;
        if let Some(pid) = process
            .as_ref()
            .and_then(|p| rustix::process::Pid::from_raw(p.pid))
        {
            rustix::process::kill_process(pid, signal).map_err(text)?;
        }
        Ok(process)
    }

    fn id_of(&mut self, name: &str) -> Result<NodeId, String> {
        let o = self.observe()?;
        let server = o
            .servers()
            .get(&ServerName(name.to_owned()))
            .ok_or_else(|| format!("no server {name}"))?;
        server
            .id()
            .ok_or_else(|| format!("{name} is not known by id"))
    }

    /// A connection for data, to a server.
    fn data(&self, name: &str) -> Result<MultiplexedConnection, String> {
        let endpoint = self.endpoint(name)?;
        let access = self.admin()?;
        let password = access
            .credentials
            .as_ref()
            .map(|c| c.password.expose().to_owned());
        let info = redis::ConnectionAddr::Tcp(endpoint.host, endpoint.port);
        let login = redis::RedisConnectionInfo::default()
            .set_username("default")
            .set_password(password.unwrap_or_default());
        let info = redis::IntoConnectionInfo::into_connection_info(info)
            .map_err(text)?
            .set_redis_settings(login);
        // A WAIT takes up to its own limit.
        let patient =
            redis::AsyncConnectionConfig::new().set_response_timeout(Some(WAIT_LIMIT * 2));
        let client = redis::Client::open(info).map_err(text)?;
        self.tokio
            .block_on(client.get_multiplexed_async_connection_with_config(&patient))
            .map_err(text)
    }

    /// Writes keys at a server that owns their slots.
    fn put(&mut self, name: &str, keys: &[String], replicas: u16) -> Result<(), String> {
        let mut connection = self.data(name)?;
        let done: redis::RedisResult<u16> = self.tokio.block_on(async {
            for key in keys {
                redis::cmd("SET")
                    .arg(key)
                    .arg(key)
                    .exec_async(&mut connection)
                    .await?;
            }
            redis::cmd("WAIT")
                .arg(replicas)
                .arg(WAIT_LIMIT.as_millis().to_string())
                .query_async(&mut connection)
                .await
        });
        let copies = done.map_err(text)?;
        if copies < replicas {
            return Err(format!("{copies} of {replicas} replicas have the keys"));
        }
        self.written.extend_from_slice(keys);
        Ok(())
    }
}

impl World for Real {
    fn form(&mut self, form: &Form) -> Result<(), String> {
        let hosts: Vec<_> = form
            .hosts
            .iter()
            .map(|h| serde_json::json!({ "name": h }))
            .collect();
        let policy = if form.keep_every_write {
            "KeepEveryWrite"
        } else {
            "Availability"
        };
        let document = serde_json::json!({
            "apiVersion": shardwright_manifest::API_VERSION, "kind": shardwright_manifest::KIND,
            "metadata": { "name": "n" },
            "spec": {
                "shards": form.shards, "replicasPerShard": form.replicas, "failover": policy,
                // Every second would do for a person, but not for an end that is always the same.
                "persistence": { "aof": form.aof, "rdb": form.aof, "fsync": "always" },
                "local": { "hosts": hosts },
                "config": { "cluster-node-timeout": NODE_TIMEOUT_MS },
            },
        });
        self.manifest = document.to_string();
        self.replicas = form.replicas;
        self.open()?;
        match self.settle()?.as_slice() {
            [] => Ok(()),
            waits => Err(format!("not formed: {waits:?}")),
        }
    }

    fn write(&mut self, keys: u32) -> Result<(), String> {
        let o = self.observe()?;
        let from = self.written.len();
        let mut by_owner: std::collections::BTreeMap<String, Vec<String>> =
            std::collections::BTreeMap::new();
        for i in 0..keys {
            let key = format!("key:{}", from + usize::try_from(i).map_err(text)?);
            let slot = Slot::new(slot_of(key.as_bytes()).into()).map_err(text)?;
            let owner = o
                .owner(slot)
                .and_then(|id| o.server_of(id))
                .ok_or_else(|| format!("nobody has slot {slot}"))?;
            by_owner.entry(owner.name.0.clone()).or_default().push(key);
        }
        for (owner, keys) in by_owner {
            self.put(&owner, &keys, self.replicas)?;
        }
        Ok(())
    }

    fn kill(&mut self, name: &str) -> Result<(), String> {
        let Some(process) = self.signal(name, rustix::process::Signal::KILL)? else {
            return Ok(());
        };
        let gone = || {
            if process.lives() {
                Err("it lives".to_owned())
            } else {
                Ok(())
            }
        };
        shardwright_testkit::wait::until_blocking("the process to be gone", GONE_LIMIT, gone)
            .map_err(text)
    }

    fn freeze(&mut self, name: &str) -> Result<(), String> {
        self.signal(name, rustix::process::Signal::STOP).map(|_| ())
    }

    fn thaw(&mut self, name: &str) -> Result<(), String> {
        self.signal(name, rustix::process::Signal::CONT).map(|_| ())
    }

    fn lose_table(&mut self, name: &str) -> Result<(), String> {
        self.kill(name)?;
        let nodes = self.dir.path().join("cluster/nodes");
        let table = nodes.join(real_name(name)).join("data/nodes.conf");
        std::fs::remove_file(table).map_err(text)
    }

    fn wipe(&mut self, name: &str) -> Result<(), String> {
        self.kill(name)?;
        let data = self
            .dir
            .path()
            .join("cluster/nodes")
            .join(real_name(name))
            .join("data");
        std::fs::remove_dir_all(data).map_err(text)
    }

    fn move_all(&mut self) -> Result<(), String> {
        let names: Vec<String> = self
            .keeper()?
            .runtime()
            .state()
            .servers
            .keys()
            .cloned()
            .collect();
        for name in names {
            self.kill(&script_name(&name))?;
        }
        self.open()
    }

    fn accept_data_loss(&mut self) -> Result<(), String> {
        self.desire(|d| Desired {
            consent: Consent {
                lose_data: true,
                ..Consent::default()
            },
            ..d
        })
    }

    fn failover(&mut self, name: &str) -> Result<(), String> {
        let node = self.id_of(name)?;
        self.desire(|d| {
            d.with(Request::Promote {
                node,
                manner: Manner::Switchover,
            })
        })
    }

    fn open_slot(&mut self, slot: Slot, from: &str, to: &str, moved: Moved) -> Result<(), String> {
        let (source, target) = (self.id_of(from)?, self.id_of(to)?);
        let tag = tag_for(slot.number());
        let keys: Vec<String> = (0..2).map(|i| format!("{{{tag}}}:{i}")).collect();
        self.put(from, &keys, self.replicas)?;
        self.at(to, async |c| {
            c.set_slot(slot, SetSlot::ImportingFrom(source)).await
        })?;
        self.at(from, async |c| {
            c.set_slot(slot, SetSlot::MigratingTo(target)).await
        })?;
        let count = match moved {
            Moved::None => return Ok(()),
            Moved::Half => 1,
            Moved::All => 2,
        };
        let (endpoint, access) = (self.endpoint(to)?, self.admin()?);
        let bytes: Vec<Vec<u8>> = keys
            .iter()
            .take(count)
            .map(|k| k.clone().into_bytes())
            .collect();
        self.at(from, async |c| {
            let credentials = access.credentials.as_ref();
            let what = Migrate {
                to: &endpoint,
                keys: &bytes,
                replace: false,
                limit: Duration::from_secs(2),
                credentials,
            };
            c.migrate(&what).await.map(|_| ())
        })
    }

    fn forget(&mut self, name: &str) -> Result<(), String> {
        let id = self.id_of(name)?;
        let o = self.observe()?;
        // First it forgets everyone, or its gossip would bring it back.
        self.at(name, async |c| c.reset(Reset::Soft).await)?;
        for (server, _) in o.views().filter(|(s, _)| s.name.0 != name) {
            self.at(&server.name.0, async |c| c.forget(id).await)?;
        }
        Ok(())
    }

    fn follow(&mut self, name: &str, other: &str) -> Result<(), String> {
        let primary = self.id_of(other)?;
        self.at(name, async |c| c.replicate(primary).await)
    }

    fn drop_slot(&mut self, slot: Slot) -> Result<(), String> {
        let o = self.observe()?;
        let owner = o
            .owner(slot)
            .and_then(|id| o.server_of(id))
            .ok_or("nobody owns it")?
            .name
            .0
            .clone();
        let slots: SlotSet = [slot].into_iter().collect();
        self.at(&owner, async |c| c.del_slots(&slots).await)
    }

    fn settle(&mut self) -> Result<Vec<Waiting>, String> {
        let keeper = self.keeper.as_mut().ok_or("form comes first")?;
        let end = self
            .tokio
            .block_on(keeper.settle(SETTLE_LIMIT, |_| {}))
            .map_err(text)?;
        let desired = Desired {
            request: None,
            ..keeper.desired().clone()
        };
        keeper.set_desired(desired);
        match end {
            End::Settled(_) => Ok(Vec::new()),
            End::Stuck(report) => Ok(report
                .plan
                .waiting
                .into_iter()
                .filter(Waiting::needs_a_person)
                .map(in_script_names)
                .collect()),
            End::TimedOut(report) | End::Stopped(report) => Err(format!(
                "not settled in time: {:?}\n{}",
                report.plan,
                differences(&report.observed)
            )),
            End::Failed(report) => Err(format!(
                "failed: {:?} {:?}",
                report.violations, report.outcomes
            )),
        }
    }

    fn observe(&mut self) -> Result<Observed, String> {
        let keeper = self.keeper.as_mut().ok_or("form comes first")?;
        let seen = self.tokio.block_on(keeper.observe()).map_err(text)?;
        let renamed = seen.servers().values().cloned().map(|mut server| {
            server.name = ServerName(script_name(&server.name.0));
            server
        });
        Ok(Observed::new(seen.at, keeper.runtime().formed(), renamed))
    }

    fn keys(&mut self) -> Result<(u64, u64), String> {
        let o = self.observe()?;
        let mut lost = 0;
        for key in &self.written {
            let slot = Slot::new(slot_of(key.as_bytes()).into()).map_err(text)?;
            let owner = o
                .owner(slot)
                .and_then(|id| o.server_of(id))
                .ok_or_else(|| format!("nobody has slot {slot}"))?;
            let mut connection = self.data(&owner.name.0)?;
            let got: redis::RedisResult<Option<String>> = self
                .tokio
                .block_on(redis::cmd("GET").arg(key).query_async(&mut connection));
            lost += u64::from(got.map_err(text)?.as_ref() != Some(key));
        }
        Ok((u64::try_from(self.written.len()).map_err(text)?, lost))
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let Some(keeper) = self.keeper.take() else {
            return;
        };
        let names: Vec<String> = keeper.runtime().state().servers.keys().cloned().collect();
        self.keeper = Some(keeper);
        for name in names {
            let ended = self.kill(&script_name(&name));
            assert!(
                ended.is_ok() || std::thread::panicking(),
                "{name} was left running: {ended:?}"
            );
        }
    }
}

/// Who differs about whom: what the speaker holds of the node, and what the node says of itself.
fn differences(o: &Observed) -> String {
    let row = |of: NodeId, about: NodeId| {
        let view = o.view_of(of)?;
        let mut row = view.rows.get(about)?.clone();
        row.slots = SlotSet::empty(); // thousands of numbers
        Some((
            row,
            view.rows.get(about)?.slots.to_string(),
            view.cluster.current_epoch,
        ))
    };
    let lines = o.disagreements().iter().map(|d| {
        let (held, own) = (row(d.speaker, d.about), row(d.about, d.about));
        format!("{d:?}\n  held: {held:?}\n  own: {own:?}\n")
    });
    lines.collect()
}

/// The same wait with the script's name of the server.
fn in_script_names(wait: Waiting) -> Waiting {
    let named = |server: ServerName| ServerName(script_name(&server.0));
    match wait {
        Waiting::StartHeld { server } => Waiting::StartHeld {
            server: named(server),
        },
        Waiting::Foreign { server, what } => Waiting::Foreign {
            server: named(server),
            what,
        },
        other => other,
    }
}

/// `n0` of a script is `n-0` of the runtime.
fn real_name(script: &str) -> String {
    script.replacen('n', "n-", 1)
}

fn script_name(real: &str) -> String {
    real.replacen("n-", "n", 1)
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn text(error: impl ToString) -> String {
    error.to_string()
}
