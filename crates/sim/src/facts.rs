//! What real engines do, in figures. Each constant names the test that measures it on real servers
//! (`crates/testkit/tests/engine_facts`), or says why there is none, so that the model and the engines cannot drift apart unseen.
//!
//! All times in milliseconds.

/// `cluster-node-timeout` of the model: the project's own default, not the engine's 15 s.
/// Measured by `fact_second_vote_about_a_primary_waits_two_node_timeouts`, whose lock is a multiple of it.
pub const NODE_TIMEOUT_MS: u64 = 5_000;

/// The engine's own timer runs ten times a second (`clusterCron`): links are made, failures seen, elections begun.
/// Measured by `fact_meet_full_mesh_is_known_within_1s`.
pub const TICK_MS: u64 = 100;

/// How long a primary that starts, or was in a minority, refuses writes although all slots are covered.
/// Measured by `fact_state_ok_after_writable_delay`.
pub const WRITABLE_DELAY_MS: u64 = 2_000;

/// A primary whose majority came back waits node-timeout, within these bounds, before it takes writes again.
/// Measured by `fact_rejoin_delay_is_node_timeout`.
pub const REJOIN_DELAY_MS: (u64, u64) = (500, 5_000);

/// How long a forgotten node is not taken in again from gossip. MEET is not held back by it.
/// Measured by `fact_forget_must_reach_all_within_60s`.
pub const FORGET_BAN_MS: u64 = 60_000;

/// An election waits for votes for 2 × node-timeout at most.
/// Measured by `fact_denied_election_blocks_new_force`.
pub const VOTE_WAIT_MS: u64 = 2 * NODE_TIMEOUT_MS;

/// After an election, won or denied, a replica begins the next only after 4 × node-timeout, a FORCE included
/// (Redis; Valkey 9 begins anew). Measured by `fact_denied_election_blocks_new_force`.
pub const ELECTION_RETRY_MS: u64 = 4 * NODE_TIMEOUT_MS;

/// A voter votes about one primary only once in 2 × node-timeout (Redis; Valkey 9 does not hold back).
/// Measured by `fact_second_vote_about_a_primary_waits_two_node_timeouts`.
pub const SECOND_VOTE_MS: u64 = 2 * NODE_TIMEOUT_MS;

/// A replica waits so long, and up to as much again by chance, before it asks for votes by itself, so that the news
/// of the failure is everywhere. Redis Cluster specification, "Replica election and promotion".
/// Not measured: the engine's own failover is only ever waited for.
pub const ELECTION_DELAY_MS: u64 = 500;

/// Each sibling with a fresher copy delays a replica's own election by this.
/// Redis Cluster specification, "Replica rank". Not measured: the engine's own failover is only ever waited for.
pub const RANK_DELAY_MS: u64 = 1_000;

/// A report of failure counts for 2 × node-timeout; a failed primary with slots is believed again after as long.
/// Redis Cluster specification, "Failure detection". Not measured: the figure is the specification's.
pub const REPORT_VALID_MS: u64 = 2 * NODE_TIMEOUT_MS;

/// A replica asks its primary to pause for a switchover; it is given up after this, and the pause lasts twice as long.
/// That it takes milliseconds when all is well: `fact_switchover_takes_ms`.
pub const MANUAL_FAILOVER_MS: u64 = 5_000;

/// A MEET that nobody answers is dropped after node-timeout.
/// Measured by `fact_meet_full_mesh_is_known_within_1s`.
pub const HANDSHAKE_MS: u64 = NODE_TIMEOUT_MS;

/// A node is pinged at the latest when its last answer is this old: half of node-timeout. With the one random ping
/// a second, a role is learnt within 0 to 5.4 s. Measured by `fact_role_is_learned_only_by_pings`.
pub const PING_AGE_MS: u64 = NODE_TIMEOUT_MS / 2;

/// One message over the bus, least and most: on one machine and in one data centre.
/// Measured by `fact_takeover_needs_no_vote`, which ends within 11 ms everywhere.
pub const BUS_MS: (u64, u64) = (1, 3);

/// How much later than other messages a MEET may be read where the bus is slow: a new link is first accepted.
/// Measured by `fact_replica_of_a_lesser_epoch_may_never_be_believed`, whose scene rests on that order.
pub const ACCEPT_MS: u64 = 300;

/// One acknowledged write to a replica, least and most, when nothing is slow. The replica's acknowledgement
/// is not waited for: replication is asynchronous. Not measured: a bound of one network.
pub const STREAM_MS: (u64, u64) = (1, 8);

/// A replica that lost its link and finds it again continues within this (partial synchronisation).
/// Not measured: nothing is decided by it.
pub const RESUME_MS: (u64, u64) = (5, 200);

/// A first full copy of a small data set, with `repl-diskless-sync-delay 0`.
/// Measured by `fact_repl_diskless_sync_delay`.
pub const FULL_COPY_MS: (u64, u64) = (100, 1_500);

/// The stream carries a ping every 10 s, so that an idle primary's offset grows too (`repl-ping-replica-period`).
/// Not measured: the engine's documentation.
pub const STREAM_PING_MS: u64 = 10_000;

/// A stopped process answers again so long after its start: no data to load, or little.
/// Measured by `fact_aof_restart_in_place_keeps_keys`.
pub const LOAD_MS: (u64, u64) = (20, 300);

/// What `appendfsync everysec` may lose: the writes of the last second (by its own documentation, two at worst).
/// Not measured: the engine's documentation.
pub const EVERYSEC_WINDOW_MS: u64 = 1_000;

/// How many bytes of the stream the model counts for a write.
pub const WRITE_BYTES: u64 = 100;

/// Data older than this is not promoted by the engine itself (`cluster-replica-validity-factor 10`):
/// 10 × node-timeout and the stream's ping period. Not measured: the engine's own failover is only ever waited for.
pub const DATA_AGE_MAX_MS: u64 = 10 * NODE_TIMEOUT_MS + STREAM_PING_MS;

/// In what the two engines differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    /// Redis 7.0: learns roles only by pings, and has the locks on elections and votes.
    Redis70,
    /// Valkey 9: tells everyone at once of a new role, and has neither lock.
    Valkey9,
}

impl Profile {
    /// Whether a change of role is broadcast at once (`fact_role_change_is_told_at_once`).
    pub fn broadcasts_roles(self) -> bool {
        self == Self::Valkey9
    }

    /// Whether FORGET is passed on to the others (`fact_forget_must_reach_all_within_60s`).
    pub fn broadcasts_forgetting(self) -> bool {
        self == Self::Valkey9
    }

    /// Whether a primary that turned into a replica is not believed while it is held to be in its new primary's shard,
    /// and its epoch as a primary was greater (`fact_replica_of_a_lesser_epoch_may_never_be_believed`).
    pub fn doubts_replicas(self) -> bool {
        self == Self::Valkey9
    }

    /// Whether a primary that starts deletes keys of slots that its table gives to others; else it shows those slots as
    /// taken in (`fact_keys_of_others_slots_end_with_a_restart`).
    pub fn deletes_stray_keys(self) -> bool {
        self == Self::Valkey9
    }

    /// Whether a replica whose primary's new address it learns from others copies from there: Redis sets the target only
    /// where the primary itself tells (`clusterProcessGossipSection` against `nodeUpdateAddressIfNeeded`).
    pub fn retargets_by_gossip(self) -> bool {
        self == Self::Valkey9
    }

    /// Whether a FORCE begins a new election at once, voters vote again about one primary, and the votes of an
    /// election that was won are forgotten (`fact_recent_winner_promotes_itself_with_old_votes`).
    pub fn votes_again(self) -> bool {
        self == Self::Valkey9
    }
}

/// What a key takes. Not measured: only how many of them fit below a limit matters.
pub(crate) const KEY_BYTES: u64 = 100;
