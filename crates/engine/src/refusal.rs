//! What it means when a server refuses a command: one table for every command of this crate.
//!
//! A refusal is an answer: the server is there, and what it holds is there. It never counts as silence, and what it did
//! not tell is unknown, never zero. The states themselves are shown by `engine_facts` (`refusing`).

use shardwright_topology::Why;

use crate::Retry;

/// Why a server refuses commands, by the first word of its reply.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Refusal {
    /// `LOADING`: it reads its data set. `INFO` and `ROLE` are answered; Valkey tells its table of nodes too.
    Loading,
    /// `BUSY`: a script or a function runs for too long. Nothing is answered but `SCRIPT KILL`, `FUNCTION KILL` and
    /// `SHUTDOWN NOSAVE`.
    Busy,
    /// `MASTERDOWN`: a replica without a link that is told not to serve old data. `INFO`, `ROLE` and the table of nodes
    /// are answered; `PING`, `DBSIZE` and `WAIT` are not.
    NoLink,
    /// `NOREPLICAS`: a primary with fewer replicas than it needs for writes.
    FewReplicas,
    /// `OOM`: it is at its memory limit, and takes nothing more.
    Memory,
    /// `MISCONF`: it can't save, and takes no writes until it can. A primary then refuses `PING` too.
    Disk,
    /// `NOAUTH`, `WRONGPASS`: it wants other credentials.
    Credentials,
    /// `NOPERM`: the user may not use this command.
    Forbidden,
    /// `READONLY`: it is a replica, and takes no writes.
    ReadOnly,
    /// `CLUSTERDOWN`: the node does not serve, or not this slot.
    ClusterDown,
    /// `TRYAGAIN`, `BUSYKEY`, `IOERR`: the slot is being moved, or the far end of a move did not take it.
    Moving,
    /// `ERR unknown command`: it was renamed or taken away, or this version has none.
    Unknown,
    /// The command itself is refused, whatever the state of the node: other arguments, or no such subcommand.
    Wrong,
    /// Anything else: the command does not fit the state of the node.
    Other,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Loading,
        Self::Busy,
        Self::NoLink,
        Self::FewReplicas,
        Self::Memory,
        Self::Disk,
        Self::Credentials,
        Self::Forbidden,
        Self::ReadOnly,
        Self::ClusterDown,
        Self::Moving,
        Self::Unknown,
        Self::Wrong,
        Self::Other,
    ];

    /// The refusal with this first word, and the rest of it.
    pub fn of(code: &str, message: &str) -> Self {
        /// What engines say of a command that they do not take at all.
        const NEVER: [&str; 3] = [
            "wrong number of arguments",
            "syntax error",
            "unknown subcommand",
        ];
        let message = message.to_ascii_lowercase();
        match code {
            "LOADING" => Self::Loading,
            "BUSY" => Self::Busy,
            "MASTERDOWN" => Self::NoLink,
            "NOREPLICAS" => Self::FewReplicas,
            "OOM" => Self::Memory,
            "MISCONF" => Self::Disk,
            "NOAUTH" | "WRONGPASS" => Self::Credentials,
            "NOPERM" => Self::Forbidden,
            "READONLY" => Self::ReadOnly,
            "CLUSTERDOWN" => Self::ClusterDown,
            "TRYAGAIN" | "BUSYKEY" | "IOERR" => Self::Moving,
            "NOPROTO" => Self::Wrong,
            "ERR" if message.starts_with("unknown command") => Self::Unknown,
            "ERR" if NEVER.iter().any(|words| message.starts_with(words)) => Self::Wrong,
            _ => Self::Other,
        }
    }

    /// Whether the same command may work later without anybody doing anything here. Nothing was done by it.
    pub fn retry(self) -> Retry {
        match self {
            Self::Loading
            | Self::Busy
            | Self::NoLink
            | Self::FewReplicas
            | Self::ClusterDown
            | Self::Moving => Retry::Later,
            // A refusal is about the state that was assumed: it must be looked at again.
            Self::Memory | Self::Disk | Self::ReadOnly | Self::Other => Retry::LookFirst,
            Self::Credentials | Self::Forbidden | Self::Unknown | Self::Wrong => Retry::Never,
        }
    }

    /// Why it is not known what was asked for. Always an answer, so never a reason to hold the server for gone.
    pub fn why(self, code: &str, message: &str) -> Why {
        match self {
            Self::Loading => Why::Loading,
            Self::Busy => Why::Busy(message.to_owned()),
            Self::Credentials | Self::Forbidden => Why::Denied(message.to_owned()),
            Self::NoLink
            | Self::FewReplicas
            | Self::Memory
            | Self::Disk
            | Self::ReadOnly
            | Self::ClusterDown
            | Self::Moving
            | Self::Unknown
            | Self::Wrong
            | Self::Other => Why::Strange(format!("{code} {message}")),
        }
    }
}

/// What a command is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Purpose {
    /// Opens or names the connection.
    Connect,
    /// A part of what a node says of itself and the others. Refused, none of it is known.
    View,
    /// A number of keys, or their names or values.
    Data,
    /// What the server is able to do, or how it is set.
    Setting,
    /// Changes the table of nodes, the slots or the roles.
    Cluster,
    /// Changes the server's settings, users or functions, or ends it.
    Server,
    /// Carries keys from one node to another.
    Move,
}

/// Every command of this crate, and what it is for.
pub const COMMANDS: &[(&str, Purpose)] = &[
    ("AUTH", Purpose::Connect),
    ("PING", Purpose::Connect),
    ("CLIENT SETNAME", Purpose::Connect),
    ("CLIENT LIST", Purpose::Setting),
    ("CLUSTER MYID", Purpose::View),
    ("CLUSTER NODES", Purpose::View),
    ("CLUSTER INFO", Purpose::View),
    ("CLUSTER SHARDS", Purpose::View),
    ("CLUSTER LINKS", Purpose::Setting),
    ("INFO", Purpose::View),
    ("ROLE", Purpose::View),
    ("DBSIZE", Purpose::Data),
    ("CLUSTER COUNTKEYSINSLOT", Purpose::Data),
    ("CLUSTER GETKEYSINSLOT", Purpose::Data),
    ("CLUSTER SLOT-STATS", Purpose::Data),
    ("MEMORY USAGE", Purpose::Data),
    ("WAIT", Purpose::Data),
    ("SCAN", Purpose::Data),
    ("TYPE", Purpose::Data),
    ("DUMP", Purpose::Data),
    ("PTTL", Purpose::Data),
    ("COMMAND INFO", Purpose::Setting),
    ("CONFIG GET", Purpose::Setting),
    ("FUNCTION LIST", Purpose::Setting),
    ("CLUSTER GETSLOTMIGRATIONS", Purpose::Setting),
    ("CLUSTER MIGRATION STATUS", Purpose::Setting),
    ("CLUSTER MEET", Purpose::Cluster),
    ("CLUSTER SET-CONFIG-EPOCH", Purpose::Cluster),
    ("CLUSTER BUMPEPOCH", Purpose::Cluster),
    ("CLUSTER ADDSLOTS", Purpose::Cluster),
    ("CLUSTER ADDSLOTSRANGE", Purpose::Cluster),
    ("CLUSTER DELSLOTS", Purpose::Cluster),
    ("CLUSTER DELSLOTSRANGE", Purpose::Cluster),
    ("CLUSTER REPLICATE", Purpose::Cluster),
    ("CLUSTER FAILOVER", Purpose::Cluster),
    ("CLUSTER FORGET", Purpose::Cluster),
    ("CLUSTER RESET", Purpose::Cluster),
    ("CLUSTER SETSLOT", Purpose::Cluster),
    ("FUNCTION LOAD", Purpose::Server),
    ("CONFIG SET", Purpose::Server),
    ("CONFIG REWRITE", Purpose::Server),
    ("ACL SETUSER", Purpose::Server),
    ("ACL LOAD", Purpose::Server),
    ("SHUTDOWN", Purpose::Server),
    ("MIGRATE", Purpose::Move),
    ("SELECT", Purpose::Move),
    ("RESTORE", Purpose::Move),
    ("RESTORE-ASKING", Purpose::Move),
    ("DEL", Purpose::Move),
    ("CLUSTER MIGRATESLOTS", Purpose::Move),
    ("CLUSTER CANCELSLOTMIGRATIONS", Purpose::Move),
    ("CLUSTER MIGRATION IMPORT", Purpose::Move),
    ("CLUSTER MIGRATION CANCEL", Purpose::Move),
];

/// What a command is for, by its name with or without its first arguments (`CLUSTER FAILOVER FORCE`).
pub fn purpose(command: &str) -> Option<Purpose> {
    let matches = |name: &str| {
        let rest = command.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    };
    let named = COMMANDS.iter().filter(|(name, _)| matches(name));
    named.max_by_key(|(name, _)| name.len()).map(|(_, p)| *p)
}

/// What is so after a command was refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Meaning {
    /// The server is there, and what it is and holds is not known: it is looked at again.
    ViewUnknown,
    /// The server is there, and this number or value is not known. What `INFO` and the table of nodes say still counts.
    ValueUnknown,
    /// Nothing was changed; the same may work later.
    NotDoneYet,
    /// Nothing was changed; what was assumed has to be looked at first.
    NotDone,
    /// Nothing was changed, and nothing will be until a person changes something.
    NeverDone,
}

/// What is so after a command with this purpose was refused in this way.
pub fn meaning(purpose: Purpose, refusal: Refusal) -> Meaning {
    match (purpose, refusal.retry()) {
        (Purpose::Connect | Purpose::View, Retry::Later | Retry::LookFirst | Retry::Never) => {
            Meaning::ViewUnknown
        }
        (Purpose::Data | Purpose::Setting, Retry::Later | Retry::LookFirst | Retry::Never) => {
            Meaning::ValueUnknown
        }
        (Purpose::Cluster | Purpose::Server | Purpose::Move, Retry::Later) => Meaning::NotDoneYet,
        (Purpose::Cluster | Purpose::Server | Purpose::Move, Retry::LookFirst) => Meaning::NotDone,
        (Purpose::Cluster | Purpose::Server | Purpose::Move, Retry::Never) => Meaning::NeverDone,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::{COMMANDS, Meaning, Purpose, Refusal, meaning, purpose};
    use crate::Retry;

    /// The words that a reply of each kind begins with.
    const WORDS: [(&str, Refusal); 20] = [
        ("LOADING", Refusal::Loading),
        ("BUSY", Refusal::Busy),
        ("MASTERDOWN", Refusal::NoLink),
        ("NOREPLICAS", Refusal::FewReplicas),
        ("OOM", Refusal::Memory),
        ("MISCONF", Refusal::Disk),
        ("NOAUTH", Refusal::Credentials),
        ("WRONGPASS", Refusal::Credentials),
        ("NOPERM", Refusal::Forbidden),
        ("READONLY", Refusal::ReadOnly),
        ("CLUSTERDOWN", Refusal::ClusterDown),
        ("TRYAGAIN", Refusal::Moving),
        ("BUSYKEY", Refusal::Moving),
        ("IOERR", Refusal::Moving),
        ("NOPROTO", Refusal::Wrong),
        ("ERR syntax error", Refusal::Wrong),
        ("ERR unknown command 'MIGRATE'", Refusal::Unknown),
        ("ERR Unknown node c0ffee", Refusal::Other),
        ("CROSSSLOT", Refusal::Other),
        ("MOVED", Refusal::Other),
    ];

    #[test]
    fn every_refusal_is_an_answer_of_a_server_that_is_there() {
        for (reply, refusal) in WORDS {
            let (word, message) = reply.split_once(' ').unwrap_or((reply, ""));
            assert_eq!(Refusal::of(word, message), refusal, "{reply}");
            let why = refusal.why(word, "words of its own");
            assert!(why.is_an_answer(), "{word}: {why:?}");
        }
        for refusal in Refusal::ALL {
            assert!(WORDS.iter().any(|(_, r)| *r == refusal), "{refusal:?}");
        }
    }

    #[test]
    fn what_each_command_means_when_it_is_refused_is_in_the_table() {
        for (command, of) in COMMANDS {
            for refusal in Refusal::ALL {
                let means = meaning(*of, refusal);
                let wanted = match (of, refusal.retry()) {
                    (Purpose::Connect | Purpose::View, _) => Meaning::ViewUnknown,
                    (Purpose::Data | Purpose::Setting, _) => Meaning::ValueUnknown,
                    (_, Retry::Later) => Meaning::NotDoneYet,
                    (_, Retry::LookFirst) => Meaning::NotDone,
                    (_, Retry::Never) => Meaning::NeverDone,
                };
                assert_eq!(means, wanted, "{command} and {refusal:?}");
            }
        }
    }

    #[test]
    fn no_command_is_missing_from_the_table() {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut found = 0;
        let mut dirs = vec![src];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).expect("the sources are there") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    dirs.push(path);
                    continue;
                }
                let text = fs::read_to_string(&path).expect("a source");
                for rest in text.split("Request::new(\"").skip(1) {
                    let name = rest.split('"').next().expect("text after a quote");
                    found += 1;
                    assert!(name.is_empty() || purpose(name).is_some(), "{name}");
                }
            }
        }
        assert!(
            found > 20,
            "{found}: the commands are looked for in the wrong place"
        );
        for (command, of) in COMMANDS {
            assert_eq!(purpose(command), Some(*of), "{command}");
        }
        assert_eq!(purpose("CLUSTER FAILOVER FORCE"), Some(Purpose::Cluster));
        assert_eq!(purpose("FLUSHALL"), None);
    }
}
