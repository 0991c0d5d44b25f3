//! What is wanted.

use shardwright_topology::{NodeId, ServerName, SlotSet};

/// What is wanted of a cluster: the only input beside what was observed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Desired {
    /// How many shards and replicas.
    pub shape: Shape,
    /// Whether the servers are ours to start and to forget.
    pub authority: Authority,
    /// What to do when a primary dies.
    pub failover: FailoverPolicy,
    /// How long the host that a server's volume ties it to may be away before the server is made anew elsewhere,
    /// without the volume, in milliseconds. `None`: the host is waited for.
    pub recreate_after_ms: Option<u64>,
    /// What a person agreed to.
    pub consent: Consent,
    /// What a person asked for, once.
    pub request: Option<Request>,
    /// No further slots are given out until that is taken back. A slot that is half moved is finished.
    pub moves_paused: bool,
}

impl Desired {
    /// A cluster whose servers we run, of this shape.
    pub fn managed(shards: u16, replicas_per_shard: u16) -> Self {
        Self {
            shape: Shape::Declared {
                shards,
                replicas_per_shard,
            },
            authority: Authority::Managed,
            failover: FailoverPolicy::Availability,
            recreate_after_ms: None,
            consent: Consent::default(),
            request: None,
            moves_paused: false,
        }
    }

    /// A cluster that others run, kept in the shape it has.
    pub fn guest() -> Self {
        Self {
            shape: Shape::AsFound,
            authority: Authority::Guest,
            ..Self::managed(0, 0)
        }
    }

    /// The same, with a request.
    #[must_use]
    pub fn with(self, request: Request) -> Self {
        Self {
            request: Some(request),
            ..self
        }
    }
}

/// The shape of a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// As the manifest says.
    Declared {
        /// Primaries with slots, at least 3.
        shards: u16,
        /// Replicas of each.
        replicas_per_shard: u16,
    },
    /// As it is: only what is broken is mended.
    AsFound,
}

/// Whose servers these are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Authority {
    /// Ours: we start them, and know which there are.
    Managed,
    /// Others': we talk to those that are there, and an absent one may return.
    Guest,
}

/// What to do when a primary dies that could come back with its append-only file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FailoverPolicy {
    /// Promote a replica at once, and report the tail of writes that may be lost.
    #[default]
    Availability,
    /// Give the restart its grace first.
    KeepEveryWrite,
}

/// What a person agreed to, knowing what it costs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Consent {
    /// Data that cannot be had any more may be given up.
    pub lose_data: bool,
    /// Slots may move to a server whose memory limit they may exceed.
    pub force_memory: bool,
    /// The primary of the replica that is asked for in its place is dead: a person knows it, though nothing proves it.
    /// What it took in and no replica has read is lost, and it counts for nothing once the primary answers.
    pub primary_is_dead: bool,
}

/// What a person asked for, once. A request that is fulfilled asks for nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// Form a cluster from these blank servers, in this order of preference for primaries.
    Form {
        /// The servers, as they were given.
        order: Vec<ServerName>,
    },
    /// Make this replica the primary of its shard.
    Promote {
        /// The replica.
        node: NodeId,
        /// How.
        manner: Manner,
    },
    /// Let this blank server join.
    Join {
        /// The server.
        server: ServerName,
        /// As a replica; as an empty primary otherwise.
        replica: bool,
        /// Whose replica; by default the shard with the fewest.
        of: Option<NodeId>,
    },
    /// Take this node out of the cluster. What slots it owns are divided among the other primaries first.
    Leave {
        /// The node.
        node: NodeId,
    },
    /// Let these slots belong to these nodes.
    Assign {
        /// Who is to own what. Of two who are to own one slot, neither is chosen: that is refused.
        goal: Vec<(NodeId, SlotSet)>,
    },
}

/// How a replica is to become a primary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    /// With the old primary, in sync: nothing is lost.
    Switchover,
    /// Without the old primary, which is proved dead or by a person's word ([`Consent::primary_is_dead`]), by vote.
    Force,
    /// Without the old primary, which is proved dead or by a person's word, and without votes.
    Takeover,
}
