//! Stopping a cluster, with its data saved, and removing it.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::join_all;
use rustix::process::Signal;
use shardwright_engine::{Client, Endpoint, Save};
use shardwright_topology::Role;

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

impl Local {
    /// Stops every server, its data saved: primaries first, for they wait until their replicas have everything.
    /// Returns how many were stopped.
    pub async fn stop(&self, mut tell: impl FnMut(&str)) -> Result<usize, StopError> {
        let mut primaries = Vec::new();
        let mut others = Vec::new();
        for (name, note) in &self.state().servers {
            if self.process_of(name)?.is_none() {
                continue;
            }
            let endpoint = Endpoint::from(&self.address_of(note));
            let client = Client::connect(&endpoint, &self.access()).await.ok();
            let role = match &client {
                Some(client) => client.observe().await.ok().and_then(|raw| raw.parse().ok()),
                None => None,
            };
            let primary =
                role.is_some_and(|v| v.own().is_some_and(|own| own.role == Role::Primary));
            if primary {
                primaries.push((name, client));
            } else {
                others.push((name, client));
            }
        }
        let count = primaries.len() + others.len();
        for group in [primaries, others] {
            let stopped = join_all(
                group
                    .into_iter()
                    .map(|(name, client)| self.stop_one(name, client)),
            )
            .await;
            for result in stopped {
                tell(&result?);
            }
        }
        Ok(count)
    }

    async fn stop_one(&self, name: &str, client: Option<Client>) -> Result<String, StopError> {
        let Some(process) = self.process_of(name)? else {
            return Ok(name.to_owned());
        };
        let log = self.log_file(name);
        let mut saved = false;
        if let Some(client) = client {
            match client.shutdown(Save::Snapshot, SAVE_LIMIT).await {
                Ok(()) => saved = true,
                Err(error @ shardwright_engine::Error::Server { .. }) => {
                    return Err(StopError::NotSaved {
                        server: name.to_owned(),
                        log,
                        source: error,
                    });
                }
                // It may be on its way out: the process tells.
                Err(error) => tracing::warn!(server = name, %error, "no answer to the shutdown"),
            }
        }
        if !saved {
            // It does not speak with us: asked the way an init system would. It saves then as it is configured.
            process.signal(Signal::TERM)?;
        }
        self.wait_gone(name, &process).await?;
        if saved {
            let mark = self.data_dir(name).join(CLEAN_MARK);
            files::write(&mark, "", files::PUBLIC)
                .map_err(|source| StopError::File { path: mark, source })?;
        }
        Ok(name.to_owned())
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
    pub async fn purge(self) -> Result<usize, StopError> {
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
