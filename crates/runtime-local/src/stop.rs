//! Stopping a cluster, with its data saved, and removing it.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::join_all;
use rustix::process::Signal;
use shardwright_engine::{Client, Endpoint, Save};
use shardwright_topology::{NodeView, Role};

use crate::disk::CLEAN_MARK;
use crate::{Identity, Local, ProcessError, files};

/// How long a server may take to save and end. A snapshot writes some 100 MB a second at least.
const SAVE_LIMIT: Duration = Duration::from_secs(60);
/// How long a process may take to go after its connection closed, or after a signal.
const EXIT_LIMIT: Duration = Duration::from_secs(15);

/// A server could not be stopped, or its files not removed.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// A process.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A server did not stop.
    #[error("{server} (process {pid}) did not stop; see {}", log.display())]
    StillRuns {
        /// Which.
        server: String,
        /// Its process.
        pid: i32,
        /// Its log.
        log: PathBuf,
    },
    /// A server did not save its data, so it was left running.
    #[error("{server} did not save its data and runs on; see {}", log.display())]
    NotSaved {
        /// Which.
        server: String,
        /// Its log.
        log: PathBuf,
        /// What it said.
        source: shardwright_engine::Error,
    },
    /// A file can't be removed or written.
    #[error("cannot use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A server that was stopped.
#[derive(Debug)]
pub struct Stopped {
    /// Which.
    pub server: String,
    /// Why it is not known that its data was saved; None if the server said that it was.
    pub unsaved: Option<shardwright_engine::Error>,
}

impl Local {
    /// Stops every server, its data saved: primaries first, for they wait until their replicas have everything.
    /// A server that can't be asked is ended by a signal, and saves as it is configured.
    pub async fn stop(&self, mut tell: impl FnMut(&Stopped)) -> Result<Vec<Stopped>, StopError> {
        let mut primaries = Vec::new();
        let mut others = Vec::new();
        for (name, note) in &self.state().servers {
            let Some(process) = self.process_of(name)? else {
                continue;
            };
            let endpoint = Endpoint::from(&self.address_of(note));
            let client = Client::connect(&endpoint, &self.access()).await;
            let role = match &client {
                Ok(client) => role(client).await,
                Err(error) => Err(error.to_string()),
            };
            match role {
                Ok(Role::Primary) => primaries.push((name, process, client)),
                Ok(Role::Replica) => others.push((name, process, client)),
                Err(why) => {
                    tracing::warn!(
                        server = name,
                        why,
                        "its role is not known: it is stopped after the primaries"
                    );
                    others.push((name, process, client));
                }
            }
        }
        let mut all = Vec::new();
        for group in [primaries, others] {
            let stopped = join_all(
                group
                    .into_iter()
                    .map(|(name, process, client)| self.stop_one(name, process, client)),
            )
            .await;
            for result in stopped {
                let stopped = result?;
                tell(&stopped);
                all.push(stopped);
            }
        }
        Ok(all)
    }

    async fn stop_one(
        &self,
        name: &str,
        process: Identity,
        client: Result<Client, shardwright_engine::Error>,
    ) -> Result<Stopped, StopError> {
        let asked = match client {
            Ok(client) => client.shutdown(Save::Snapshot, SAVE_LIMIT).await,
            Err(error) => Err(error),
        };
        let server = name.to_owned();
        let unsaved = match asked {
            Ok(()) => None,
            Err(source @ shardwright_engine::Error::Server { .. }) => {
                let log = self.log_file(name);
                return Err(StopError::NotSaved {
                    server,
                    log,
                    source,
                });
            }
            Err(error) => Some(error),
        };
        if unsaved.is_some() {
            // It does not speak with us: asked the way an init system would. It saves then as it is configured.
            process.signal(Signal::TERM)?;
        }
        self.wait_gone(name, &process).await?;
        if unsaved.is_none() {
            let mark = self.data_dir(name).join(CLEAN_MARK);
            files::write(&mark, "", files::PUBLIC)
                .map_err(|source| StopError::File { path: mark, source })?;
        }
        Ok(Stopped { server, unsaved })
    }

    async fn wait_gone(&self, name: &str, process: &Identity) -> Result<(), StopError> {
        if process.gone(EXIT_LIMIT).await? {
            return Ok(());
        }
        let log = self.log_file(name);
        Err(StopError::StillRuns {
            server: name.to_owned(),
            pid: process.pid,
            log,
        })
    }

    /// Kills every server without saving, and removes the cluster's directory with all its data.
    pub async fn purge(&self) -> Result<usize, StopError> {
        let mut count = 0;
        for name in self.state().servers.keys() {
            let Some(process) = self.process_of(name)? else {
                continue;
            };
            count += usize::from(process.signal(Signal::KILL)?);
            self.wait_gone(name, &process).await?;
        }
        let dir = self.dir().to_owned();
        fs::remove_dir_all(&dir).map_err(|source| StopError::File { path: dir, source })?;
        Ok(count)
    }
}

/// What a server takes itself for, or why that is not known.
async fn role(client: &Client) -> Result<Role, String> {
    let raw = client.observe().await.map_err(|e| e.to_string())?;
    let view: NodeView = raw.parse().map_err(|e| e.to_string())?;
    let own = view.own().ok_or("it does not list itself")?;
    Ok(own.role)
}
