//! Bounds and times the planner keeps.

/// Bounds and times. All times in milliseconds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// How long a failover by vote may take before the same replica takes over without votes.
    /// Votes take 16–168 ms when the views agree; a denied vote would block the next for 4 × node-timeout.
    pub takeover_after_ms: u64,
    /// How long an unheard sibling of a candidate is waited for: it may hold a fresher copy.
    pub sibling_wait_ms: u64,
    /// How long a dead primary with an append-only file may take to come back, under `KeepEveryWrite`.
    pub restart_grace_ms: u64,
    /// How long one may take whose replica is behind: what its file alone has is lost by a promotion. A pod may need a
    /// minute to come back.
    pub behind_grace_ms: u64,
    /// How long a switchover may take before it is asked for again; the engine itself gives up after 5 s.
    pub switchover_retry_ms: u64,
    /// The cluster's node-timeout, after which its engine's own locks are counted.
    pub node_timeout_ms: u64,
    /// How long a replica may be held to be a primary of a greater epoch before its own primary takes one above that.
    /// Where the word of a new role is believed it comes within 0.3 s, by a greeting.
    pub disbelief_max_ms: u64,
    /// How long everything must have been at rest, in the same places and roles, before a replica moves for a better
    /// place: longer than a Kubernetes node is away for a moment, or a pod needs to come back.
    pub spread_after_ms: u64,
    /// How long a node that gave all its slots away stays before it leaves: by its answers (`MOVED`) clients learn who
    /// has them now.
    pub drain_ms: u64,
    /// How many MEETs one pass sends at most. A full mesh of 60 nodes fits; beyond, gossip does the rest.
    pub meets_per_pass_max: usize,
    /// How many keys one pass moves of an open slot at most.
    pub keys_per_pass_max: u32,
    /// How many slots one step moves at most, so that a pass stays short.
    pub slots_per_step_max: u16,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            takeover_after_ms: 400,
            sibling_wait_ms: 1_000,
            restart_grace_ms: 10_000,
            behind_grace_ms: 120_000,
            switchover_retry_ms: 6_000,
            node_timeout_ms: 15_000,
            disbelief_max_ms: 1_000,
            spread_after_ms: 10_000,
            drain_ms: 15_000,
            meets_per_pass_max: 4_096,
            keys_per_pass_max: 500,
            slots_per_step_max: 512,
        }
    }
}
