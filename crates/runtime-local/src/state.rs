//! The state directory: what is stored of a local cluster, and who may change it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use shardwright_topology::{Formed, InvalidNodeId, NodeId, Timestamp};

use crate::{control, files};

/// `cluster.json`: the servers, and the one fact that steers (that the cluster was formed). No roles: they are observed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The layout of this file: 1.
    pub version: u32,
    /// The cluster's name.
    pub name: String,
    /// The server program.
    pub engine: PathBuf,
    /// That the cluster was formed, with its id.
    pub formed: Option<FormedNote>,
    /// The servers, by name.
    pub servers: BTreeMap<String, ServerNote>,
    /// The shape that it had before the change of shape that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former: Option<ShapeNote>,
}

/// How many shards and replicas.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ShapeNote {
    /// Primaries with slots.
    pub shards: u32,
    /// Replicas of each.
    pub replicas_per_shard: u32,
}

/// That the cluster was formed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FormedNote {
    /// An id made up then.
    pub cluster_id: String,
    /// When, in Unix milliseconds.
    pub at_ms: u64,
}

/// One server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ServerNote {
    /// Its place in the order of making, from 0.
    pub index: u32,
    /// Its client port.
    pub port: u16,
    /// The node that lives there, once it belongs to the cluster.
    pub node: Option<String>,
}

impl State {
    /// The fact that steers, in the planner's words.
    pub fn formed(&self) -> Option<Formed> {
        let note = self.formed.as_ref()?;
        Some(Formed {
            cluster_id: note.cluster_id.clone(),
            at: Timestamp(note.at_ms),
        })
    }

    /// The node recorded at a server. It is an id: [`State::read`] takes nothing else.
    pub fn node_of(&self, server: &str) -> Option<NodeId> {
        self.servers.get(server)?.node.as_ref()?.parse().ok()
    }

    /// All nodes that are recorded.
    pub fn nodes(&self) -> BTreeSet<NodeId> {
        let names = self.servers.keys();
        names.filter_map(|name| self.node_of(name)).collect()
    }

    /// Reads `cluster.json`; `None` when the directory is empty or not there.
    ///
    /// # Errors
    /// When the file is damaged or names a node by what is no id, and when the directory holds something else.
    pub fn read(dir: &Path) -> Result<Option<Self>, StateError> {
        let path = dir.join(CLUSTER);
        match fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text, path).map(Some),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let foreign = match fs::read_dir(dir) {
                    Ok(mut entries) => {
                        entries.any(|e| e.map_or(true, |e| !is_passing(&e.file_name())))
                    }
                    Err(e) if e.kind() == io::ErrorKind::NotFound => false,
                    Err(e) => return Err(file(dir)(e)),
                };
                if foreign {
                    Err(StateError::NotOurs {
                        dir: dir.to_owned(),
                    })
                } else {
                    Ok(None)
                }
            }
            Err(e) => Err(file(&path)(e)),
        }
    }

    fn parse(text: &str, path: PathBuf) -> Result<Self, StateError> {
        let state: Self = match serde_json::from_str(text) {
            Ok(state) => state,
            Err(source) => return Err(StateError::Damaged { path, source }),
        };
        for (server, note) in &state.servers {
            if let Some(found) = &note.node
                && let Err(source) = found.parse::<NodeId>()
            {
                return Err(StateError::NoNodeId {
                    path,
                    server: server.clone(),
                    found: found.clone(),
                    source,
                });
            }
        }
        Ok(state)
    }
}

/// The state directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file or directory can't be read or written.
    #[error("cannot use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `cluster.json` makes no sense.
    #[error("{} is damaged; restore it, or remove the cluster with: shardwright down --purge", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// `cluster.json` names a node by what is no id.
    #[error(
        "{} says that node {found:?} lives at {server}; put its id there, which its nodes/{server}/data/nodes.conf has in the line `myself`",
        path.display()
    )]
    NoNodeId {
        /// Which.
        path: PathBuf,
        /// At which server.
        server: String,
        /// What stands there.
        found: String,
        /// What is wrong with it.
        source: InvalidNodeId,
    },
    /// The directory belongs to another cluster.
    #[error("{} holds the cluster {found:?}, not {wanted:?}; choose another --dir", dir.display())]
    Another {
        /// Which.
        dir: PathBuf,
        /// Whose it is.
        found: String,
        /// Who was asked for.
        wanted: String,
    },
    /// The directory holds something else.
    #[error("{} is not empty and holds no cluster; choose another --dir", dir.display())]
    NotOurs {
        /// Which.
        dir: PathBuf,
    },
    /// There is no cluster there.
    #[error("no local cluster in {}; make one: shardwright up -f FILE", dir.display())]
    NoCluster {
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// Someone else is changing it.
    #[error("{} is in use by another shardwright (process {pid}); wait until it is done, or stop it", dir.display())]
    Locked {
        /// Which.
        dir: PathBuf,
        /// Who.
        pid: String,
    },
    /// Neither a state directory nor a home is known.
    #[error("neither XDG_STATE_HOME nor HOME is set; name the directory: --dir DIR")]
    NoHome,
}

fn file(path: &Path) -> impl FnOnce(io::Error) -> StateError + '_ {
    |source| StateError::File {
        path: path.to_owned(),
        source,
    }
}

/// Where local clusters are kept: `$XDG_STATE_HOME/shardwright`, else `~/.local/state/shardwright`.
pub fn root() -> Result<PathBuf, StateError> {
    let state = std::env::var_os("XDG_STATE_HOME")
        .filter(|d| !d.is_empty())
        .map(PathBuf::from);
    let home = || {
        std::env::var_os("HOME")
            .filter(|d| !d.is_empty())
            .map(|h| PathBuf::from(h).join(".local/state"))
    };
    state
        .or_else(home)
        .map(|dir| dir.join("shardwright"))
        .ok_or(StateError::NoHome)
}

/// The names of the clusters kept there, in order.
pub fn clusters(root: &Path) -> Result<Vec<String>, StateError> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(file(root)(e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(file(root))?;
        if entry.path().join(CLUSTER).is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// While this is there, no slots are given out.
const PAUSED: &str = "moves-paused";

/// Has whoever keeps the cluster in this directory give out no further slots. Says whether that is new.
///
/// # Errors
/// When there is no cluster, or the directory can't be written.
pub fn pause_moves(dir: &Path) -> Result<bool, StateError> {
    must_be_there(dir)?;
    let path = dir.join(PAUSED);
    match OpenOptions::new().write(true).create_new(true).open(&path) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(file(&path)(e)),
    }
}

/// Lets slots be given out again. Says whether that is new.
///
/// # Errors
/// When there is no cluster, or the directory can't be written.
pub fn resume_moves(dir: &Path) -> Result<bool, StateError> {
    must_be_there(dir)?;
    let path = dir.join(PAUSED);
    match fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(file(&path)(e)),
    }
}

/// Whether slots are not to be given out.
///
/// # Errors
/// When the directory can't be read.
pub fn moves_paused(dir: &Path) -> Result<bool, StateError> {
    let path = dir.join(PAUSED);
    path.try_exists().map_err(file(&path))
}

fn must_be_there(dir: &Path) -> Result<(), StateError> {
    match State::read(dir)? {
        Some(_) => Ok(()),
        None => Err(StateError::NoCluster {
            dir: dir.to_owned(),
        }),
    }
}

const CLUSTER: &str = "cluster.json";

/// Writes `cluster.json`.
pub(crate) fn write(dir: &Path, state: &State) -> Result<(), StateError> {
    let path = dir.join(CLUSTER);
    let text = serde_json::to_string_pretty(state).map_err(|source| StateError::Damaged {
        path: path.clone(),
        source,
    })?;
    files::write(&path, &text, files::PUBLIC).map_err(file(&path))
}

const LOCK: &str = "lock";

/// Whether a file in the state directory is there for a run, and nothing of a cluster.
fn is_passing(name: &OsStr) -> bool {
    name == LOCK || name == control::SOCKET
}

/// The one lock of a local cluster, held while this value lives. The kernel takes it away from a dead process.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateLock {
    /// Takes the lock, or says who has it.
    pub fn take(dir: &Path) -> Result<Self, StateError> {
        files::private_dir(dir).map_err(file(dir))?;
        let path = dir.join(LOCK);
        let open = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path);
        let mut held = open.map_err(file(&path))?;
        match flock(&held, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                held.read_to_string(&mut pid).map_err(file(&path))?;
                return Err(StateError::Locked {
                    dir: dir.to_owned(),
                    pid: pid.trim().to_owned(),
                });
            }
            Err(e) => return Err(file(&path)(e.into())),
        }
        held.set_len(0).map_err(file(&path))?;
        held.rewind().map_err(file(&path))?;
        held.write_all(std::process::id().to_string().as_bytes())
            .map_err(file(&path))?;
        Ok(Self { _file: held })
    }
}
