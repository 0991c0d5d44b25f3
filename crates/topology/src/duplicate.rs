//! Two processes that answer as one node: a disk was copied.

use std::fmt;

use crate::{Address, NodeId, NodeView, Replication, Role, Server, ServerName};

/// One process that answered as a node, with what tells it from another.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Instance {
    /// Where it answered: a server's name, or the address alone where it is at no known server.
    pub at: ServerName,
    /// The address it was asked at, where that is known.
    pub address: Option<Address>,
    /// Its run: another with every start of a process.
    pub run_id: String,
    /// Seconds since the process began.
    pub uptime_s: Option<u64>,
    /// Which role it gives itself.
    pub role: Option<Role>,
    /// How many keys it holds.
    pub keys: u64,
    /// How far its replication stream is, in bytes.
    pub offset: u64,
}

impl Instance {
    /// The process that said this at this server.
    pub fn of(server: &Server, view: &NodeView) -> Self {
        Self::at(&server.name, server.address.known(), view)
    }

    /// The process that said this there.
    pub fn at(name: &ServerName, address: Option<&Address>, view: &NodeView) -> Self {
        let (Replication::Primary { offset, .. } | Replication::Replica { offset, .. }) =
            view.server.replication;
        Self {
            at: name.clone(),
            address: address.cloned(),
            run_id: view.server.run_id.clone(),
            uptime_s: view.server.uptime_s,
            role: view.own().map(|own| own.role),
            keys: view.server.keys,
            offset,
        }
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let run: String = self.run_id.chars().take(8).collect();
        write!(f, "{}", self.at)?;
        if let Some(address) = self.address.as_ref().filter(|a| a.to_string() != self.at.0) {
            write!(f, " ({address})")?;
        }
        let role = match self.role {
            Some(Role::Primary) => "primary, ",
            Some(Role::Replica) => "replica, ",
            None => "",
        };
        write!(f, ": {role}run {run}, ")?;
        match self.uptime_s {
            Some(seconds) => write!(f, "up {seconds} s")?,
            None => f.write_str("uptime unknown")?,
        }
        write!(f, ", {} keys, offset {}", self.keys, self.offset)
    }
}

/// One node id that two processes give as their own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DuplicateId {
    /// The id.
    pub node: NodeId,
    /// One process.
    pub first: Instance,
    /// The other.
    pub second: Instance,
}

impl DuplicateId {
    /// Whether both are one process, which two addresses lead to.
    pub fn is_one_process(&self) -> bool {
        self.first.run_id == self.second.run_id
    }
}

impl fmt::Display for DuplicateId {
    /// The node is written short (`{:?}`): the whole id is in the value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (node, first, second) = (self.node, &self.first, &self.second);
        if self.is_one_process() {
            return write!(
                f,
                "{} and {} are one process, node {node:?}",
                first.at, second.at
            );
        }
        if first.at == second.at {
            return write!(
                f,
                "two processes answer in turn at one address as node {node:?} ({first}; {second})"
            );
        }
        write!(
            f,
            "two processes answer as node {node:?} ({first}; {second})"
        )
    }
}
