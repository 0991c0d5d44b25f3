//! One observation of one node, in one round trip.

use std::collections::BTreeMap;

use shardwright_topology::NodeView;
use shardwright_topology::wire::{
    Command, WireError, parse_cluster_info, parse_my_id, parse_nodes, parse_server_info,
};

use crate::client::Request;
use crate::{Client, Error};

/// Everything one node says of itself and of its cluster, as it came: for the parsers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawView {
    /// `CLUSTER MYID`.
    pub my_id: Vec<u8>,
    /// `CLUSTER NODES`.
    pub cluster_nodes: Vec<u8>,
    /// `CLUSTER INFO`.
    pub cluster_info: Vec<u8>,
    /// `INFO`, the default sections: server, memory, persistence, stats, replication, keyspace.
    pub info: Vec<u8>,
    /// `DBSIZE`: keys of database 0.
    pub keys: u64,
}

impl RawView {
    /// Reads the texts. Keys of open slots are not among them: see [`Client::view`].
    pub fn parse(&self) -> Result<NodeView, WireError> {
        Ok(NodeView {
            id: parse_my_id(&self.my_id)?,
            rows: parse_nodes(&self.cluster_nodes)?,
            cluster: parse_cluster_info(&self.cluster_info)?,
            server: parse_server_info(&self.info)?,
            keys_in_slot: BTreeMap::new(),
        })
    }
}

impl Client {
    /// Observes the node and reads what it said. Where it has open slots their keys are
    /// counted too, in a second round trip.
    pub async fn view(&self) -> Result<NodeView, Error> {
        let raw = self.observe().await?;
        let mut view = raw
            .parse()
            .map_err(|error| self.asked(name(error.command)).strange(&error))?;
        let open: Vec<_> = view
            .own()
            .into_iter()
            .flat_map(|own| own.open.iter().map(|open| open.slot()))
            .collect();
        let counts = self.count_keys_of(&open).await?;
        view.keys_in_slot = open.into_iter().zip(counts).collect();
        Ok(view)
    }

    /// Asks for everything in one round trip. The parts belong together as closely as a
    /// server allows: it answers them one right after the other.
    ///
    /// A server that is loading answers none of it: [`Error::Loading`].
    pub async fn observe(&self) -> Result<RawView, Error> {
        const NAMES: [&str; 5] = [
            "CLUSTER MYID",
            "CLUSTER NODES",
            "CLUSTER INFO",
            "INFO",
            "DBSIZE",
        ];
        let requests = NAMES.into_iter().map(Request::new).collect();
        let replies = self.ask_all("an observation", requests).await?;
        let mut replies = replies
            .into_iter()
            .collect::<Result<Vec<_>, _>>()?
            .into_iter();
        let mut text = |name| {
            let value = replies
                .next()
                .ok_or_else(|| self.asked(name).strange("no reply"))?;
            self.expect_text(name, value)
        };
        let my_id = text(NAMES[0])?;
        let cluster_nodes = text(NAMES[1])?;
        let cluster_info = text(NAMES[2])?;
        let info = text(NAMES[3])?;
        let size = replies
            .next()
            .ok_or_else(|| self.asked(NAMES[4]).strange("no reply"))?;
        let keys = self.expect_number(NAMES[4], &size)?;
        Ok(RawView {
            my_id,
            cluster_nodes,
            cluster_info,
            info,
            keys,
        })
    }
}

fn name(command: Command) -> &'static str {
    match command {
        Command::ClusterNodes => "CLUSTER NODES",
        Command::ClusterInfo => "CLUSTER INFO",
        Command::ClusterMyId => "CLUSTER MYID",
        Command::ClusterShards => "CLUSTER SHARDS",
        Command::Info => "INFO",
        Command::Role => "ROLE",
    }
}
