//! More servers for a cluster that is there, and fewer.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use shardwright_manifest::Cluster;
use shardwright_runtime::RuntimeError;
use shardwright_topology::{Address, Host};

use crate::local::{Local, LocalError, MANIFEST, file};
use crate::machine::{self, MachineError};
use crate::state::{ServerNote, ShapeNote, State};

/// How long a server that holds nothing may take to end.
const EXIT_LIMIT: Duration = Duration::from_secs(10);

impl Local {
    /// The servers that a cluster of this shape needs beyond those that there are, with the addresses they would get.
    /// Nothing is changed.
    pub fn to_add(&self, wanted: &Cluster) -> Result<Vec<(String, Address)>, LocalError> {
        let mut state = self.state.clone();
        let added = self.added_to(&mut state, wanted)?;
        let ip = self.dial_ip();
        let address = |name: &String| {
            let note = state.servers.get(name)?;
            Some((name.clone(), Address::new(Host::Ip(ip), note.port)))
        };
        Ok(added.iter().filter_map(address).collect())
    }

    /// Adds the servers that the manifest needs beyond those that there are. Fewer are no matter of ours: the planner
    /// takes them away one by one.
    pub(crate) fn grow(&mut self) -> Result<(), LocalError> {
        let mut state = self.state.clone();
        let added = self.added_to(&mut state, &self.cluster)?;
        for name in added {
            let dir = self.node_dir(&name);
            if dir.try_exists().map_err(file(&dir))? {
                return Err(LocalError::Leftover { dir, server: name });
            }
        }
        self.state = state;
        Ok(())
    }

    /// Notes the shape that the stored manifest has, where another is wanted now: a change that is under way may be
    /// cancelled. One that began earlier and has not ended keeps what it began with.
    pub(crate) fn note_former(&mut self) -> Result<(), LocalError> {
        let path = self.dir.join(MANIFEST);
        if self.state.formed.is_none() || self.state.former.is_some() {
            return Ok(());
        }
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(file(&path)(e)),
        };
        // One that can't be read any more is replaced: then there is nothing to go back to.
        let Ok(stored) = Cluster::from_text(&text) else {
            return Ok(());
        };
        let former = shape_of(&stored.cluster);
        if former != shape_of(&self.cluster) {
            self.state.former = Some(former);
        }
        Ok(())
    }

    fn added_to(&self, state: &mut State, wanted: &Cluster) -> Result<Vec<String>, LocalError> {
        let binds = self.binds();
        let mut added = Vec::new();
        let indexes = state.servers.values().map(|s| s.index + 1);
        for index in indexes.max().unwrap_or(0)..wanted.nodes() {
            let name = format!("{}-{index}", state.name);
            let after = state.servers.values().map(|s| s.port).max().unwrap_or(0);
            let port = next_free(after, &binds, &name)?;
            let note = ServerNote {
                index,
                port,
                node: None,
            };
            state.servers.insert(name.clone(), note);
            added.push(name);
        }
        Ok(added)
    }

    /// Takes a server away that is nothing any more: its process, its directory, its note. What was once set aside
    /// there is kept.
    pub(crate) async fn remove_one(&mut self, name: &str) -> Result<(), RuntimeError> {
        let failed = || format!("cannot take {name} away");
        if self.lock.is_none() {
            return Err(RuntimeError::new(
                "the cluster was opened to be looked at, not to be changed",
            ));
        }
        let note = self.state.servers.get(name);
        let last = self.state.servers.values().map(|s| s.index).max();
        if note.map(|n| n.index) != last {
            let text = format!("{name} is not taken away: it is not the last server");
            return Err(RuntimeError::new(text));
        }
        let process = self
            .process_of(name)
            .map_err(|e| RuntimeError::because(failed(), e))?;
        if let Some(process) = process {
            // Asked to end, it would refuse while it writes its first AOF. Nothing that it has is to be kept.
            let signalled = process.signal(Signal::KILL);
            signalled.map_err(|e| RuntimeError::because(failed(), e))?;
            let gone = process.gone(EXIT_LIMIT).await;
            if !gone.map_err(|e| RuntimeError::because(failed(), e))? {
                let (pid, log) = (process.pid, self.log_file(name));
                let text = format!(
                    "{name} (process {pid}) was killed and does not end; see {}",
                    log.display()
                );
                return Err(RuntimeError::new(text));
            }
        }
        self.remove_files(name)
            .map_err(|e| RuntimeError::because(failed(), e))?;
        self.state.servers.remove(name);
        self.store()
    }

    fn remove_files(&self, name: &str) -> io::Result<()> {
        let dir = self.node_dir(name);
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        let mut aside = Vec::new();
        for entry in entries {
            let entry = entry?;
            let kept = entry.file_name().to_string_lossy().starts_with(ASIDE);
            if kept {
                aside.push(entry.path());
            }
        }
        for path in aside {
            let to = self.free_aside(name);
            fs::rename(&path, &to)?;
            tracing::info!(server = name, kept = %to.display(), "what was set aside stays");
        }
        fs::remove_dir_all(&dir)
    }

    /// A name beside the servers' directories that is still free.
    fn free_aside(&self, name: &str) -> PathBuf {
        let nodes = self.dir.join("nodes");
        let path = |n: u32| nodes.join(format!("{name}.{ASIDE}{n}"));
        let free = (1..=u32::MAX).map(path).find(|path| !path.exists());
        free.expect("there are more numbers than directories")
    }
}

fn shape_of(cluster: &Cluster) -> ShapeNote {
    ShapeNote {
        shards: cluster.shards(),
        replicas_per_shard: cluster.replicas_per_shard(),
    }
}

/// How the names of directories begin that were set aside.
const ASIDE: &str = "data.aside-";

/// The next port after this one on which a server could listen, with its bus.
fn next_free(after: u16, binds: &[IpAddr], server: &str) -> Result<u16, MachineError> {
    let mut port = after.saturating_add(1);
    loop {
        machine::ports_fit(port, 1)?;
        let taken = binds.iter().find_map(|ip| {
            let address = Address::new(Host::Ip(*ip), port);
            machine::port_free(*ip, &address, server).err()
        });
        match taken {
            None => return Ok(port),
            Some(MachineError::PortInUse { .. }) => port += 1,
            Some(other) => return Err(other),
        }
    }
}
