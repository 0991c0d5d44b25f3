//! Every reason of a condition that tells of a wait or of something amiss, and what ends it: the one table, from which the
//! documentation has its own.

/// What ends a wait.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum EndedBy {
    /// It ends without a person: by the operator, the engine, Kubernetes, or time.
    Itself,
    /// Only a person ends it.
    Person,
}

/// A reason of a condition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reason {
    /// The word.
    pub word: &'static str,
    /// What ends it.
    pub ended_by: EndedBy,
    /// What it means, as the documentation says it.
    pub meaning: &'static str,
}

macro_rules! reasons {
    ($($name:ident: $word:literal, $ended_by:ident, $meaning:literal;)+) => {
        $(#[doc = $meaning] pub const $name: Reason = Reason {
            word: $word,
            ended_by: EndedBy::$ended_by,
            meaning: $meaning,
        };)+
        /// All of them, in the order in which they are documented.
        pub const REASONS: &[Reason] = &[$($name),+];
    };
}

reasons! {
    DATA_LOST: "DataLost", Person, "it was formed, and every node is empty";
    SHARD_LOST: "ShardLost", Person, "the last copy of some slots is gone";
    SLOTS_UNCOVERED: "SlotsUncovered", Person, "nobody owns some slots, and nothing proves who is to own them";
    START_HELD: "StartHeld", Person, "a server would come back as a primary without its newest data";
    DIRECTORY_UNREAD: "DirectoryUnread", Person, "what a server's volume holds can't be read, or is another's";
    TABLE_REFUSED: "TableRefused", Person, "a server refuses its own `nodes.conf`, which may be the last of its slots";
    DATA_REFUSED: "DataRefused", Person, "a server can't load its data, which may be the last of its slots";
    DUPLICATE_NODE_ID: "DuplicateNodeId", Person, "two processes answer as one node: a volume was copied";
    FOREIGN_NODE: "ForeignNode", Person, "a pod's server belongs to another cluster, or holds keys of nobody knows whom";
    NODE_ID_LOST: "NodeIdLost", Person, "a primary is listed without an address, and the engine promotes nobody in its place";
    ADDRESS_REFUSES: "AddressRefuses", Person, "a primary's address refuses clients, and other nodes reach it or too few judge it";
    ANNOUNCED_UNREACHABLE: "AnnouncedAddressUnreachable", Person, "a node announces an address at which it does not answer";
    COPY_WOULD_BE_DROPPED: "CopyWouldBeDropped", Person, "a replica holds keys that its primary has lost";
    CANNOT_COPY: "CannotCopyItsPrimary", Person, "a replica's version can't read what its primary writes";
    SLOTS_CANNOT_MOVE: "SlotsCannotMove", Person, "slots have to move, and nothing but a person makes room or gives a right for it";
    OPEN_SLOT_STOPPED: "OpenSlotStopped", Person, "a slot stays half moved, for such a reason";
    STRAY_KEYS_STOPPED: "StrayKeysStopped", Person, "keys can't go to the owners of their slots, for such a reason";
    POD_HOLDS_KEYS: "PodHoldsKeys", Person, "a pod that is too many holds keys that are no copy";
    MOVES_PAUSED: "MovesPaused", Person, "slots have to move, and a person paused that";
    SHARDS_DIFFER: "ShardsDiffer", Person, "the number of shards is not the declared one, and is not the operator's to change";
    CREDENTIALS_REJECTED: "CredentialsRejected", Person, "no server lets the operator in";
    WRITES_REFUSED: "WritesRefused", Person, "a primary refuses what clients write";
    FUNCTIONS_DIFFER: "FunctionsDiffer", Person, "the primaries differ in a library of functions";
    MAJORITY_ON_ONE_HOST: "MajorityOnOneHost", Person, "one Kubernetes node holds so many primaries that the others are no majority";
    MAJORITY_IN_ONE_ZONE: "MajorityInOneZone", Person, "one zone does";
    SAME_HOST: "SameHost", Person, "a replica is beside its primary";
    NOT_APPLIED: "NotApplied", Person, "something is declared and not so in what runs (`UpToDate`)";
    PASSWORD_CHANGED: "PasswordChanged", Person, "a Secret has another password than the servers (`PasswordsApplied`)";
    SETTING_UNKNOWN: "SettingUnknown", Person, "a running server does not know a name of `spec.config`";
    INVALID_SPEC: "InvalidSpec", Person, "the manifest can't be used";
    PAUSED: "Paused", Person, "the object is paused";
    MAJORITY_LOST: "MajorityLost", Itself, "too few primaries are reachable for a vote; ends as they return, or by a takeover on a person's word";
    PRIMARY_SILENT: "PrimarySilent", Itself, "a primary is silent, and the others vote on it";
    DEATH_UNPROVED: "DeathUnproved", Itself, "a primary refuses connections, and the others have not judged it yet";
    NO_CANDIDATE: "NoCandidate", Itself, "no replica that is reachable has a copy of a dead primary";
    SIBLING_UNHEARD: "SiblingUnheard", Itself, "a replica that may have the fresher copy is waited for";
    ROLE_NOT_SEEN: "RoleNotSeen", Itself, "too few primaries see the successor as a replica";
    PROMOTION: "Promotion", Itself, "a replica was asked to become the primary";
    RESTART_GRACE: "RestartGrace", Itself, "a dead primary is given time to return with every write";
    SLOTS_CONTESTED: "SlotsContested", Itself, "two nodes claim some slots";
    KEYS_UNCOUNTED: "KeysUncounted", Itself, "nobody owns some slots, and a node has not counted its keys of them";
    SLOTS_NOT_SERVED: "SlotsNotServed", Itself, "some slots have no reachable primary that serves";
    STATE_NOT_OK: "StateNotOk", Itself, "a node says `cluster_state:fail`";
    PODS_MISSING: "PodsMissing", Itself, "there are fewer pods than declared";
    POD_UNHEARD: "PodUnheard", Itself, "a pod does not answer";
    PLACEMENT_IMPOSSIBLE: "PlacementImpossible", Itself, "a pod fits on no Kubernetes node; ends once one has room";
    POD_NOT_READY: "PodNotReady", Itself, "a pod is not ready though its server runs and its Kubernetes node is well";
    HOST_AWAY: "HostAway", Itself, "a Kubernetes node that has a pod's volume is away";
    STARTS_AGAIN: "StartsAgain", Itself, "a server ended after its start, and is started again later";
    PLACE_FOLLOWED: "PlaceFollowed", Itself, "a server without data waits until nobody copies its address";
    FORMING: "Forming", Itself, "the cluster is being formed";
    UNSETTLED: "Unsettled", Itself, "links or views of the nodes are not as they should be";
    VIEWS_DIFFER: "ViewsDiffer", Itself, "nodes do not know of a change yet";
    REPLICA_CATCH_UP: "ReplicaCatchUp", Itself, "a replica has no full copy or no link yet";
    REPLICA_BUFFER_TOO_SMALL: "ReplicaBufferTooSmall", Itself, "a replica's full copy begins again and again";
    COPIES_ELSEWHERE: "CopiesElsewhere", Itself, "a replica copies from an address that is not its primary's";
    REPLICA_MISSING: "ReplicaMissing", Itself, "a shard has fewer replicas than declared, and no pod is free";
    REPLICA_COMES: "ReplicaComes", Itself, "a replica of another shard will change its shard";
    REPLICA_MOVES: "ReplicaMoves", Itself, "a replica will get a better place";
    PRIMARY_MOVES: "PrimaryMoves", Itself, "a replica will take its primary's role, so that primaries are spread";
    OPEN_SLOT: "OpenSlot", Itself, "a slot is half moved";
    STRAY_KEYS: "StrayKeys", Itself, "a primary holds keys of slots that it does not own";
    SLOTS_MOVE: "SlotsMove", Itself, "slots move";
    POD_NOT_WANTED: "PodNotWanted", Itself, "a pod is too many, and stays for now";
    REQUEST_REFUSED: "RequestRefused", Itself, "what was asked for can't be done yet";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write;

    use super::*;

    const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/kubernetes.md");
    const BEGIN: &str = "<!-- The rows come from crates/operator/src/reasons.rs: UPDATE_DOCS=1 cargo test -p shardwright-operator documented -->\n";
    const END: &str = "<!-- end of the rows -->";

    fn rows() -> String {
        let mut rows = String::from("\n| reason | ended by | |\n|---|---|---|\n");
        for reason in REASONS {
            let ended_by = match reason.ended_by {
                EndedBy::Itself => "itself",
                EndedBy::Person => "a person",
            };
            writeln!(
                rows,
                "| `{}` | {ended_by} | {} |",
                reason.word, reason.meaning
            )
            .expect("a string can be written to");
        }
        rows + "\n"
    }

    #[test]
    fn each_reason_is_in_the_table_once() {
        let words: BTreeSet<&str> = REASONS.iter().map(|r| r.word).collect();
        assert_eq!(words.len(), REASONS.len());
    }

    #[test]
    fn every_reason_is_documented_with_what_ends_it() {
        let text = std::fs::read_to_string(DOCUMENT).expect("the documentation is there");
        let (before, rest) = text.split_once(BEGIN).expect("it has the first mark");
        let (documented, after) = rest.split_once(END).expect("it has the last mark");
        if documented == rows() {
            return;
        }
        assert!(
            std::env::var_os("UPDATE_DOCS").is_some(),
            "docs/kubernetes.md does not say what the table of reasons does; the mark there says how to update it"
        );
        let new = format!("{before}{BEGIN}{}{END}{after}", rows());
        std::fs::write(DOCUMENT, new).expect("the documentation can be written");
    }
}
