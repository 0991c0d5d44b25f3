//! What a place to run servers must offer.

use std::collections::BTreeMap;

use async_trait::async_trait;
use shardwright_topology::{
    Address, Disk, Formed, NodeId, NodeView, OutdatedStart, Place, Process, Row, Seen, ServerName,
    StartFailure, Starter, Timestamp,
};

/// One server as its runtime knows it, before anyone has asked the server itself.
#[derive(Clone, Debug)]
pub struct Seat {
    /// Its name.
    pub name: ServerName,
    /// Where it is reached.
    pub address: Seen<Address>,
    /// Where it runs.
    pub place: Place,
    /// Whether its process lives. [`Process::Unknown`] where the runtime can't tell.
    pub process: Process,
    /// Who starts it when it is dead.
    pub starter: Starter,
    /// True when it was told to end, and soon will.
    pub leaving: bool,
    /// What a start would find on its disk.
    pub disk: Seen<Disk>,
    /// What the table of nodes there says of its own node, where that was read.
    pub disk_row: Option<Box<Row>>,
    /// Why its last process ended before it served, where that is known and nothing has changed since.
    pub start_failure: Option<Box<StartFailure>>,
    /// The node that lived here last.
    pub recorded_id: Option<NodeId>,
    /// Where it does not start as it was made, and would be made otherwise by now.
    pub outdated: Option<OutdatedStart>,
}

impl Seat {
    /// Where it runs: what the server itself says of its zone counts where nothing else is known of it.
    pub(crate) fn place_said(&self, view: Option<&NodeView>) -> Place {
        let mut place = self.place.clone();
        place.zone = place
            .zone
            .or_else(|| view.and_then(|v| v.server.availability_zone.clone()));
        place
    }
}

/// A runtime could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct RuntimeError {
    what: String,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl RuntimeError {
    /// An error that says what could not be done, to what, and what to do next.
    pub fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            source: None,
        }
    }

    /// The same, with its cause.
    pub fn because(
        what: impl Into<String>,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self {
            what: what.into(),
            source: Some(Box::new(source)),
        }
    }
}

/// A place to run servers. It has hands, no opinions.
#[async_trait]
pub trait Runtime: Send {
    /// The servers there are, as they are now.
    async fn seats(&mut self, now: Timestamp) -> Result<Vec<Seat>, RuntimeError>;

    /// The stored fact that the cluster was formed.
    fn formed(&self) -> Option<Formed>;

    /// Takes note of what was heard at the seats. It may show further servers: [`Runtime::seats`] is asked again.
    async fn learn(&mut self, heard: &[(ServerName, NodeView)]) -> Result<(), RuntimeError>;

    /// Starts a server's process. Returns once it runs; it may not answer yet.
    async fn start(&mut self, server: &ServerName) -> Result<(), RuntimeError>;

    /// Sets a dead server's data directory aside, and starts it with an empty one. Nothing is deleted.
    async fn start_afresh(&mut self, server: &ServerName) -> Result<(), RuntimeError>;

    /// Makes a server anew on another host than this one, which is away and to which its volume ties it. The volume is
    /// given up. Refused if that is no longer so.
    async fn recreate(&mut self, server: &ServerName, host: &str) -> Result<(), RuntimeError>;

    /// Makes a server anew that was made from this revision and does not start so. What is on its disk stays. Refused if it
    /// runs by now, or is another already; and where servers are made from nothing that could change.
    async fn replace(&mut self, server: &ServerName, made_from: &str) -> Result<(), RuntimeError> {
        let text = format!("{server} was not made from {made_from}, nor from any other revision");
        Err(RuntimeError::new(text))
    }

    /// Takes the last server away for good, with what is on its disk. It may still run for a moment.
    async fn remove(&mut self, server: &ServerName) -> Result<(), RuntimeError>;

    /// Stores the fact that the cluster is formed.
    async fn record_formed(&mut self, now: Timestamp) -> Result<(), RuntimeError>;

    /// Stores which node lives at these servers from now on. The planner chose them.
    async fn record_members(
        &mut self,
        nodes: &BTreeMap<ServerName, NodeId>,
    ) -> Result<(), RuntimeError>;

    /// Ends when a process may have ended or begun: only a hint to look again.
    async fn woken(&mut self);

    /// Whether a person paused the moving of slots here. Where that is told with what is desired, nothing is told here.
    fn moves_paused(&self) -> Result<bool, RuntimeError> {
        Ok(false)
    }

    /// The cluster is as it is desired: a change of its shape is no longer under way.
    async fn settled(&mut self) -> Result<(), RuntimeError> {
        Ok(())
    }
}

#[async_trait]
impl Runtime for Box<dyn Runtime> {
    async fn seats(&mut self, now: Timestamp) -> Result<Vec<Seat>, RuntimeError> {
        (**self).seats(now).await
    }

    fn formed(&self) -> Option<Formed> {
        (**self).formed()
    }

    async fn learn(&mut self, heard: &[(ServerName, NodeView)]) -> Result<(), RuntimeError> {
        (**self).learn(heard).await
    }

    async fn start(&mut self, server: &ServerName) -> Result<(), RuntimeError> {
        (**self).start(server).await
    }

    async fn start_afresh(&mut self, server: &ServerName) -> Result<(), RuntimeError> {
        (**self).start_afresh(server).await
    }

    async fn recreate(&mut self, server: &ServerName, host: &str) -> Result<(), RuntimeError> {
        (**self).recreate(server, host).await
    }

    async fn replace(&mut self, server: &ServerName, made_from: &str) -> Result<(), RuntimeError> {
        (**self).replace(server, made_from).await
    }

    async fn remove(&mut self, server: &ServerName) -> Result<(), RuntimeError> {
        (**self).remove(server).await
    }

    async fn record_formed(&mut self, now: Timestamp) -> Result<(), RuntimeError> {
        (**self).record_formed(now).await
    }

    async fn record_members(
        &mut self,
        nodes: &BTreeMap<ServerName, NodeId>,
    ) -> Result<(), RuntimeError> {
        (**self).record_members(nodes).await
    }

    async fn woken(&mut self) {
        (**self).woken().await;
    }

    fn moves_paused(&self) -> Result<bool, RuntimeError> {
        (**self).moves_paused()
    }

    async fn settled(&mut self) -> Result<(), RuntimeError> {
        (**self).settled().await
    }
}
