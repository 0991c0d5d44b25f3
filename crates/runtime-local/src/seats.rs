//! What the keeper asks of this machine: which servers there are, start one, store what is to be remembered.

use std::collections::BTreeMap;
use std::error::Error;

use async_trait::async_trait;
use shardwright_runtime::{Runtime, RuntimeError, Seat};
use shardwright_topology::{
    Death, DeathProof, Disk, Formed, NodeId, NodeView, Place, Process, Row, Seen, ServerName,
    StartFailure, Starter, Timestamp, Why, WhyNotStarted,
};

use crate::disk;
use crate::local::{Local, PROCESS};
use crate::process::{Identity, ProcessError};
use crate::state::{self, FormedNote, ServerNote};

/// What a start of a server would find in its directory.
struct Found {
    disk: Seen<Disk>,
    /// Its node's own row of the table there.
    row: Option<Box<Row>>,
    /// Why it would end at once, as it did the last time.
    failure: Option<Box<StartFailure>>,
}

impl Found {
    fn unread(why: String) -> Self {
        Self::nothing(Why::Unreachable(why))
    }

    fn nothing(why: Why) -> Self {
        Self {
            disk: Seen::Unknown(why),
            row: None,
            failure: None,
        }
    }
}

impl Local {
    fn seat(&self, name: &str, note: &ServerNote, now: Timestamp) -> Result<Seat, ProcessError> {
        let noted = Identity::read(&self.node_dir(name).join(PROCESS))?;
        let process = match &noted {
            None => Process::Dead(Death {
                proof: DeathProof::NotStarted,
                since: now,
            }),
            Some(id) if id.lives() => Process::Running,
            Some(_) => Process::Dead(Death {
                proof: DeathProof::ChildReaped,
                since: now,
            }),
        };
        let host = self
            .cluster
            .local()
            .host_of(usize::try_from(note.index).unwrap_or(usize::MAX));
        let place = Place {
            zone: host.and_then(|h| h.zone.clone()),
            host: host.map(|h| h.host.clone()),
            away_since: None,
            cordoned: false,
            tied: None,
            leave_rank: note.index,
        };
        // Only what is down is looked at: a running server's files change under our eyes.
        let found = match process {
            Process::Dead(_) => self.look(name, noted.as_ref()),
            Process::Running | Process::Unknown => Found::nothing(Why::NotAsked),
        };
        Ok(Seat {
            name: ServerName(name.to_owned()),
            address: Seen::Known(self.address_of(note)),
            place,
            process,
            starter: Starter::Step,
            leaving: false,
            disk: found.disk,
            disk_row: found.row,
            start_failure: found.failure,
            recorded_id: self.state.node_of(name),
            outdated: None,
        })
    }

    /// `last`: the server's last run.
    fn look(&self, name: &str, last: Option<&Identity>) -> Found {
        let data = self.data_dir(name);
        let unread = |e: &dyn Error| Found::unread(e.to_string());
        let row = match (self.stranger_at(name), disk::own_row(&data)) {
            (Ok(None), Ok(row)) => row,
            (Ok(Some(stranger)), _) => {
                return Found::unread(format!(
                    "{} holds the data of node {}, which does not belong here",
                    data.display(),
                    stranger.short()
                ));
            }
            (Err(e), _) => return unread(&e),
            (Ok(None), Err(e)) => return unread(&e),
        };
        let failure = last.and_then(|last| self.start_failure(name, last));
        let disk = match failure.as_ref().map(|failure| &failure.why) {
            Some(WhyNotStarted::TableRefused) => Seen::Known(Disk::TableRefused),
            Some(why) if why.is_of_the_data() => Seen::Known(Disk::DataRefused),
            Some(_) | None => disk::look(
                &data,
                self.cluster.persistence().aof,
                self.state.node_of(name).is_some(),
            ),
        };
        Found {
            disk,
            row: row.map(Box::new),
            failure,
        }
    }

    /// Stores the state. Only who holds the lock may.
    pub(crate) fn store(&self) -> Result<(), RuntimeError> {
        if self.lock.is_none() {
            return Err(RuntimeError::new(
                "the cluster was opened to be looked at, not to be changed",
            ));
        }
        state::write(&self.dir, &self.state).map_err(|e| {
            RuntimeError::because(
                format!("cannot store the state in {}", self.dir.display()),
                e,
            )
        })
    }
}

#[async_trait]
impl Runtime for Local {
    async fn seats(&mut self, now: Timestamp) -> Result<Vec<Seat>, RuntimeError> {
        let seats = self
            .state
            .servers
            .iter()
            .map(|(name, note)| self.seat(name, note, now));
        seats
            .collect::<Result<_, _>>()
            .map_err(|e| RuntimeError::because("cannot look at the server processes", e))
    }

    fn formed(&self) -> Option<Formed> {
        self.state.formed()
    }

    async fn learn(&mut self, _heard: &[(ServerName, NodeView)]) -> Result<(), RuntimeError> {
        Ok(())
    }

    async fn start(&mut self, server: &ServerName) -> Result<(), RuntimeError> {
        self.start_one(&server.0)
            .map_err(|e| RuntimeError::because(format!("cannot start {server}"), e))
    }

    async fn start_afresh(&mut self, server: &ServerName) -> Result<(), RuntimeError> {
        let failed = |e| RuntimeError::because(format!("cannot start {server} afresh"), e);
        if let Ok(Some(_)) | Err(_) = self.process_of(&server.0) {
            return Err(RuntimeError::new(format!(
                "{server} is not started afresh: its process may run"
            )));
        }
        self.set_aside(&server.0).map_err(failed)?;
        // Why it failed is mended by that.
        self.take_failed(&server.0);
        self.start_one(&server.0).map_err(failed)
    }

    async fn recreate(&mut self, server: &ServerName, _host: &str) -> Result<(), RuntimeError> {
        Err(RuntimeError::new(format!(
            "{server} is not made anew: nothing ties a server of this machine to a host"
        )))
    }

    async fn remove(&mut self, server: &ServerName) -> Result<(), RuntimeError> {
        self.remove_one(&server.0).await
    }

    async fn record_formed(&mut self, now: Timestamp) -> Result<(), RuntimeError> {
        let mut bytes = [0_u8; 16];
        getrandom::fill(&mut bytes)
            .map_err(|e| RuntimeError::new(format!("no random bytes for an id: {e}")))?;
        let cluster_id = format!("{:032x}", u128::from_be_bytes(bytes));
        self.state.formed = Some(FormedNote {
            cluster_id,
            at_ms: now.0,
        });
        self.store()
    }

    async fn record_members(
        &mut self,
        nodes: &BTreeMap<ServerName, NodeId>,
    ) -> Result<(), RuntimeError> {
        for (name, node) in nodes {
            if let Some(note) = self.state.servers.get_mut(&name.0) {
                note.node = Some(node.to_string());
            }
        }
        self.store()
    }

    fn moves_paused(&self) -> Result<bool, RuntimeError> {
        state::moves_paused(&self.dir)
            .map_err(|e| RuntimeError::because("cannot tell whether slots may move", e))
    }

    async fn settled(&mut self) -> Result<(), RuntimeError> {
        if self.lock.is_some() && self.state.former.take().is_some() {
            self.store()?;
        }
        Ok(())
    }

    async fn woken(&mut self) {
        self.wake.notified().await;
    }
}
