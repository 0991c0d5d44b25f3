//! The runtime of this machine: each node a real server process in its own directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shardwright_engine::{Access, Credentials};
use shardwright_manifest::{
    Cluster, NodeSettings, Problems, RenderError, Replication, SHARDWRIGHT_USER, Secret,
    redis_conf, replication_auth, users_acl,
};
use shardwright_topology::{Address, EngineKind, Host, NodeId};
use tokio::sync::Notify;

use crate::disk::{self, CLEAN_MARK, NODES_FILE};
use crate::process::{self, Identity, ProcessError};
use crate::state::{self, ServerNote, State, StateError, StateLock};
use crate::{
    Engine, EngineChoice, EngineError, MachineError, SecretError, files, find_engine, machine,
    secrets,
};

/// The first port when neither the command line nor the manifest names one. Below 22768, so that the bus ports too
/// lie below the ports that the system gives to outgoing connections (32768 and up).
const FIRST_PORT: u16 = 7000;

/// How a cluster is to be made or brought back.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The first port, if the command line names one.
    pub port: Option<u16>,
    /// The directory of given passwords.
    pub secrets: Option<PathBuf>,
}

/// A local cluster can't be made, found or used.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// A password.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The machine.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// A process.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The server program.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The stored manifest no longer reads.
    #[error("the stored manifest {} can't be used", path.display())]
    Manifest {
        /// Which.
        path: PathBuf,
        /// Everything that is wrong with it.
        source: Problems,
    },
    /// A configuration file can't be rendered.
    #[error("cannot write the configuration")]
    Render(#[from] RenderError),
    /// A file can't be read or written.
    #[error("cannot use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The ports can't change now.
    #[error("the cluster runs on ports from {first}; stop it first to move it: shardwright down")]
    PortsInUse {
        /// The first port now.
        first: u16,
    },
    /// The data was written by an engine whose files this one may not read.
    #[error(
        "the data in {} was written by {before}, which {wanted} does not read for certain; leave out --engine, or make \
         a new cluster (--name) and take the keys over: shardwright import",
        dir.display()
    )]
    OtherEngine {
        /// The cluster's directory.
        dir: PathBuf,
        /// What wrote the data.
        before: Box<Engine>,
        /// What was asked for.
        wanted: Box<Engine>,
    },
    /// Servers run with other passwords.
    #[error(
        "servers of the cluster run with other passwords of {}; they take new ones when they start: shardwright down, \
         then the same command again",
        users.join(", ")
    )]
    PasswordsInUse {
        /// Whose passwords would change.
        users: Vec<String>,
    },
    /// A new server's directory is there already.
    #[error(
        "{} is there already, and no server of this cluster: {server} would start with what is in it; move it away",
        dir.display()
    )]
    Leftover {
        /// The directory.
        dir: PathBuf,
        /// Whose it would be.
        server: String,
    },
}

/// A cluster of this machine.
#[derive(Debug)]
pub struct Local {
    pub(crate) dir: PathBuf,
    pub(crate) state: State,
    pub(crate) cluster: Cluster,
    passwords: BTreeMap<String, Secret>,
    pub(crate) wake: Arc<Notify>,
    /// The servers whose last process failed right after its start, as it would again: that is told before another try.
    pub(crate) failed: Arc<Mutex<BTreeSet<String>>>,
    /// Held while we may change the cluster.
    pub(crate) lock: Option<Arc<StateLock>>,
}

/// A cluster that was opened, with what there is to warn of.
#[derive(Debug)]
pub struct Opened {
    /// The cluster.
    pub local: Local,
    /// Warnings for the person.
    pub warnings: Vec<String>,
}

impl Local {
    /// Makes a cluster in this directory, or opens the one that is there, to change it. Nothing is started yet.
    ///
    /// # Errors
    /// When the directory holds something else, someone else changes it, or the machine can't hold the cluster.
    /// Then nothing was changed.
    pub fn make(
        dir: &Path,
        manifest: &str,
        cluster: Cluster,
        engine: &Engine,
        options: &Options,
    ) -> Result<Opened, LocalError> {
        // What is refused is left without a lock file, and what is there may have changed before the lock was ours.
        readable(dir, &cluster, engine)?;
        let lock = Arc::new(StateLock::take(dir)?);
        let found = readable(dir, &cluster, engine)?;
        let kept = Kept {
            lock,
            wake: Arc::new(Notify::new()),
        };
        Self::made(dir, manifest, cluster, (engine, options), found, kept)
    }

    /// The same cluster, declared anew by who holds its lock already. This value is to be replaced by what is returned.
    ///
    /// # Errors
    /// As [`Local::make`], and when the cluster was opened to be looked at only. Then nothing was changed.
    pub fn declare(
        &self,
        manifest: &str,
        cluster: Cluster,
        engine: &Engine,
        options: &Options,
    ) -> Result<Opened, LocalError> {
        let found = readable(&self.dir, &cluster, engine)?;
        let Some(lock) = self.lock.clone() else {
            let source = io::Error::other("it was opened to be looked at, not to be changed");
            return Err(file(&self.dir)(source));
        };
        let kept = Kept {
            lock,
            wake: Arc::clone(&self.wake),
        };
        Self::made(&self.dir, manifest, cluster, (engine, options), found, kept)
    }

    fn made(
        dir: &Path,
        manifest: &str,
        cluster: Cluster,
        (engine, options): (&Engine, &Options),
        found: Option<State>,
        kept: Kept,
    ) -> Result<Opened, LocalError> {
        let nodes = usize::try_from(cluster.nodes()).unwrap_or(usize::MAX);
        let mut state = match found {
            Some(state) => state,
            None => first_state(&cluster, engine, options, nodes)?,
        };
        state.engine.clone_from(&engine.path);
        let mut local = Self {
            dir: dir.to_owned(),
            state,
            cluster,
            passwords: BTreeMap::new(),
            wake: kept.wake,
            // What failed with what was declared before may start now.
            failed: Arc::default(),
            lock: Some(kept.lock),
        };
        local.move_ports(options)?;
        local.note_former()?;
        local.grow()?;
        let mut warnings = local.fits()?;
        let private = local.dir.join("secrets");
        files::private_dir(&private).map_err(file(&private))?;
        local.keeps_passwords(&private, options)?;
        let (passwords, more) =
            secrets::gather(&local.cluster, &private, options.secrets.as_deref())?;
        local.passwords = passwords;
        warnings.extend(more);
        // First the servers: where only they were written, those beyond the old shape are taken away again.
        state::write(&local.dir, &local.state)?;
        let path = local.dir.join(MANIFEST);
        files::write(&path, manifest, files::PUBLIC).map_err(file(&path))?;
        Ok(Opened { local, warnings })
    }

    /// Opens an existing cluster to look at it.
    pub fn open(dir: &Path) -> Result<Self, LocalError> {
        Self::open_with(dir, None)
    }

    /// Opens an existing cluster to change it.
    pub fn open_to_change(dir: &Path) -> Result<Self, LocalError> {
        if State::read(dir)?.is_none() {
            return Err(StateError::NoCluster {
                dir: dir.to_owned(),
            }
            .into());
        }
        Self::open_with(dir, Some(Arc::new(StateLock::take(dir)?)))
    }

    fn open_with(dir: &Path, lock: Option<Arc<StateLock>>) -> Result<Self, LocalError> {
        let state = State::read(dir)?.ok_or_else(|| StateError::NoCluster {
            dir: dir.to_owned(),
        })?;
        let path = dir.join(MANIFEST);
        let text = fs::read_to_string(&path).map_err(file(&path))?;
        let accepted =
            Cluster::from_text(&text).map_err(|source| LocalError::Manifest { path, source })?;
        let mut passwords = BTreeMap::new();
        for user in accepted.cluster.users() {
            if let Some(password) = secrets::kept(&dir.join("secrets"), user.name())? {
                passwords.insert(user.name().to_owned(), password);
            }
        }
        let wake = Arc::new(Notify::new());
        Ok(Self {
            dir: dir.to_owned(),
            state,
            cluster: accepted.cluster,
            passwords,
            wake,
            failed: Arc::default(),
            lock,
        })
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What is stored of it.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What it was made from.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Where a user's password is kept.
    pub fn password_file(&self, user: &str) -> PathBuf {
        self.dir.join("secrets").join(user)
    }

    /// How we log in at its servers.
    pub fn access(&self) -> Access {
        let credentials = self
            .passwords
            .get(SHARDWRIGHT_USER)
            .map(|password| Credentials {
                user: Some(SHARDWRIGHT_USER.to_owned()),
                password: shardwright_engine::Secret::new(password.expose()),
            });
        Access {
            credentials,
            ..Access::default()
        }
    }

    /// The log of a server.
    pub fn log_file(&self, server: &str) -> PathBuf {
        self.node_dir(server).join("server.log")
    }

    /// The process of a server, if one of ours was started and lives.
    pub fn process_of(&self, server: &str) -> Result<Option<Identity>, ProcessError> {
        let noted = Identity::read(&self.node_dir(server).join(PROCESS))?;
        Ok(noted.filter(Identity::lives))
    }

    /// Where a server is reached.
    pub fn address_of(&self, note: &ServerNote) -> Address {
        Address::new(Host::Ip(self.dial_ip()), note.port)
    }

    pub(crate) fn data_dir(&self, server: &str) -> PathBuf {
        self.node_dir(server).join("data")
    }

    pub(crate) fn node_dir(&self, server: &str) -> PathBuf {
        self.dir.join("nodes").join(server)
    }

    /// The address at which we, and the nodes among themselves, reach the servers: the first they bind to.
    pub(crate) fn dial_ip(&self) -> IpAddr {
        let bound = self
            .binds()
            .first()
            .copied()
            .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        if bound.is_unspecified() {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        } else {
            bound
        }
    }

    /// Only this machine, unless the manifest says otherwise.
    pub(crate) fn binds(&self) -> Vec<IpAddr> {
        match self.cluster.local().bind() {
            [] => vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
            said => said.to_vec(),
        }
    }

    /// The node whose data a server's directory holds, where that is not its own to start with.
    pub(crate) fn stranger_at(&self, name: &str) -> Result<Option<NodeId>, LocalError> {
        let data = self.data_dir(name);
        disk::stranger(&data, self.state.node_of(name), &self.state.nodes()).map_err(file(&data))
    }

    /// No password changes under a server that runs: it would no longer let us in.
    fn keeps_passwords(&self, kept: &Path, options: &Options) -> Result<(), LocalError> {
        let Some(given) = options.secrets.as_deref() else {
            return Ok(());
        };
        let users = secrets::changed(&self.cluster, kept, given)?;
        if users.is_empty() {
            return Ok(());
        }
        for name in self.state.servers.keys() {
            if self.process_of(name)?.is_some() {
                return Err(LocalError::PasswordsInUse { users });
            }
        }
        Ok(())
    }

    /// Moves a stopped cluster to other ports. Its nodes know one another by id, and meet again there.
    fn move_ports(&mut self, options: &Options) -> Result<(), LocalError> {
        let Some(first) = options.port else {
            return Ok(());
        };
        let Some(now) = self.state.servers.values().map(|s| s.port).min() else {
            return Ok(());
        };
        if first == now {
            return Ok(());
        }
        for name in self.state.servers.keys() {
            if self.process_of(name)?.is_some() {
                return Err(LocalError::PortsInUse { first: now });
            }
        }
        let span = self.state.servers.values().map(|s| s.port - now).max();
        machine::ports_fit(first, usize::from(span.unwrap_or(0)) + 1)?;
        for note in self.state.servers.values_mut() {
            note.port = first.saturating_add(note.port - now);
        }
        Ok(())
    }

    /// Whether the machine can hold those servers that do not run yet.
    fn fits(&self) -> Result<Vec<String>, LocalError> {
        let mut idle = 0;
        for (name, note) in &self.state.servers {
            if self.process_of(name)?.is_none() {
                idle += 1;
                let address = self.address_of(note);
                for ip in self.binds() {
                    machine::port_free(ip, &address, name)?;
                }
            }
        }
        if idle == 0 {
            Ok(Vec::new())
        } else {
            Ok(machine::holds(&self.cluster, &self.dir, idle)?)
        }
    }

    /// What differs from server to server in their configurations.
    pub(crate) fn settings(&self, name: &str, note: &ServerNote) -> NodeSettings {
        let dir = self.node_dir(name);
        NodeSettings {
            port: note.port,
            bus_port: None,
            bind: self.binds(),
            dir: self.data_dir(name),
            nodes_file: NODES_FILE.to_owned(),
            acl_file: dir.join("users.acl"),
            auth_file: dir.join("auth.conf"),
            pid_file: None,
            log_file: Some(self.log_file(name)),
            announce_ip: Some(self.dial_ip()),
            announce_hostname: None,
        }
    }

    /// Whether a server would start with the configuration that it was started with last.
    pub(crate) fn is_configured_alike(&self, name: &str) -> bool {
        let note = self.state.servers.get(name);
        let now = note.and_then(|n| redis_conf(&self.cluster, &self.settings(name, n)).ok());
        let before = fs::read_to_string(self.node_dir(name).join(CONF)).ok();
        now.is_some() && now == before
    }

    fn render(&self, name: &str, note: &ServerNote) -> Result<PathBuf, LocalError> {
        let settings = self.settings(name, note);
        files::private_dir(&settings.dir).map_err(file(&settings.dir))?;
        let empty = Secret::new("");
        let replication = self
            .passwords
            .get(shardwright_manifest::REPLICATION_USER)
            .unwrap_or(&empty);
        let conf = self.node_dir(name).join(CONF);
        // What the program is now: it may have been replaced since the last start.
        let engine = find_engine(&EngineChoice::Path(self.state.engine.clone()))?;
        let valkey = engine.kind == EngineKind::Valkey;
        let between_servers = Replication::of(valkey, engine.version.major.into());
        let auth = replication_auth(replication)?;
        let texts = [
            (&conf, redis_conf(&self.cluster, &settings)?, files::PUBLIC),
            (
                &settings.acl_file,
                users_acl(&self.cluster, &self.passwords, between_servers)?,
                files::PRIVATE,
            ),
            (
                &settings.auth_file,
                auth.expose().to_owned(),
                files::PRIVATE,
            ),
        ];
        for (path, text, mode) in texts {
            files::write(path, &text, mode).map_err(file(path))?;
        }
        Ok(conf)
    }

    /// Sets a server's data directory aside, under a name that is still free.
    pub(crate) fn set_aside(&self, name: &str) -> Result<(), LocalError> {
        let data = self.data_dir(name);
        let aside = |n: u32| data.with_file_name(format!("data.aside-{n}"));
        let free = (1..=u32::MAX).map(aside).find(|path| !path.exists());
        let to = free.expect("there are more numbers than directories");
        fs::rename(&data, &to).map_err(file(&data))?;
        tracing::warn!(server = name, kept = %to.display(), "the data directory was set aside");
        Ok(())
    }

    /// Whether the last process of a server failed at once, and nobody was told yet.
    pub(crate) fn take_failed(&self, name: &str) -> bool {
        held(&self.failed).remove(name)
    }

    pub(crate) fn start_one(&self, name: &str) -> Result<(), LocalError> {
        let Some(note) = self.state.servers.get(name) else {
            return Ok(());
        };
        if self.process_of(name)?.is_some() {
            return Ok(());
        }
        let address = self.address_of(note);
        for ip in self.binds() {
            machine::port_free(ip, &address, name)?;
        }
        // Before its files are written anew: what it failed for may have been in them.
        if let Some(failed) = self.failed_at_once(name)? {
            return Err(failed.into());
        }
        let conf = self.render(name, note)?;
        let (dir, data) = (self.node_dir(name), self.data_dir(name));
        let mark = data.join(CLEAN_MARK);
        match fs::remove_file(&mark) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(file(&mark)(e)),
        }
        let begun = Instant::now();
        let mut child = process::start(
            &self.state.engine,
            &conf,
            &data,
            &self.log_file(name),
            &dir.join(PROCESS),
        )?;
        let (wake, failed) = (Arc::clone(&self.wake), Arc::clone(&self.failed));
        let name = name.to_owned();
        tokio::spawn(async move {
            match child.wait().await {
                Ok(status) => {
                    tracing::info!(server = name, %status, "the process ended");
                    let gave_up = status.code().is_some_and(|code| code != 0);
                    if gave_up && begun.elapsed() < AT_ONCE {
                        held(&failed).insert(name);
                    }
                }
                Err(error) => {
                    tracing::warn!(server = name, %error, "the process can't be waited for");
                }
            }
            wake.notify_one();
        });
        Ok(())
    }
}

/// A server that gives up so soon after its start does so for what it was started with.
const AT_ONCE: Duration = Duration::from_secs(2);

fn held(names: &Mutex<BTreeSet<String>>) -> MutexGuard<'_, BTreeSet<String>> {
    // A set of names is whole whatever panicked while it was held.
    names.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) const MANIFEST: &str = "manifest.yaml";
pub(crate) const PROCESS: &str = "process.json";
pub(crate) const CONF: &str = "redis.conf";

pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> LocalError + '_ {
    |source| LocalError::File {
        path: path.to_owned(),
        source,
    }
}

/// What outlives a declaration.
struct Kept {
    lock: Arc<StateLock>,
    wake: Arc<Notify>,
}

/// What is stored of this cluster, if anything is; an error where it is another's, or not to be read by this engine.
fn readable(dir: &Path, cluster: &Cluster, engine: &Engine) -> Result<Option<State>, LocalError> {
    let found = State::read(dir)?;
    if let Some(other) = found.as_ref().filter(|s| s.name != cluster.name()) {
        return Err(StateError::Another {
            dir: dir.to_owned(),
            found: other.name.clone(),
            wanted: cluster.name().to_owned(),
        }
        .into());
    }
    if let Some(found) = &found {
        must_read_the_data(dir, found, engine)?;
    }
    Ok(found)
}

/// Refuses a program that may not read what is there. Where the earlier program is gone nobody knows what wrote the
/// data, and the server itself refuses what it does not read.
fn must_read_the_data(dir: &Path, found: &State, engine: &Engine) -> Result<(), LocalError> {
    let written = found.servers.values().any(|s| s.node.is_some());
    if !written || found.engine == engine.path || !found.engine.is_file() {
        return Ok(());
    }
    let before = find_engine(&EngineChoice::Path(found.engine.clone()))?;
    if engine.reads_what_was_written_by(&before) {
        return Ok(());
    }
    Err(LocalError::OtherEngine {
        dir: dir.to_owned(),
        before: Box::new(before),
        wanted: Box::new(engine.clone()),
    })
}

fn first_state(
    cluster: &Cluster,
    engine: &Engine,
    options: &Options,
    nodes: usize,
) -> Result<State, LocalError> {
    let first = options
        .port
        .or(cluster.local().port())
        .unwrap_or(FIRST_PORT);
    machine::ports_fit(first, nodes)?;
    let servers = (0..cluster.nodes()).zip(first..).map(|(index, port)| {
        (
            format!("{}-{index}", cluster.name()),
            ServerNote {
                index,
                port,
                node: None,
            },
        )
    });
    Ok(State {
        version: 1,
        name: cluster.name().to_owned(),
        engine: engine.path.clone(),
        formed: None,
        servers: servers.collect(),
        former: None,
    })
}
