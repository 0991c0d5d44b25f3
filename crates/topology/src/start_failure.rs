//! Why a server's process ended before it served.

use std::fmt;

/// A line of a configuration file.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ConfigLine {
    /// Its number, from 1.
    pub number: u32,
    /// What it says.
    pub text: String,
}

/// Why a server ended before it served, as far as its log tells. `said` is the engine's own text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum WhyNotStarted {
    /// Its configuration file is not accepted.
    BadConfig {
        /// The line, where the engine names one.
        line: Option<ConfigLine>,
        /// What is wrong with it.
        said: String,
    },
    /// Its file of users is not accepted.
    BadUsers {
        /// What is wrong with it.
        said: String,
    },
    /// A file of its append-only log is damaged or missing.
    CorruptAof {
        /// Which, by its name in the directory of the log; `None`: the log's manifest.
        file: Option<String>,
        /// What is wrong with it.
        said: String,
    },
    /// Its RDB file is damaged, or is no RDB file of this engine.
    CorruptRdb {
        /// What is wrong with it.
        said: String,
    },
    /// An RDB file, its own or the base of its log, was written by a newer or another engine.
    RdbTooNew {
        /// The version of the file's format.
        format: u32,
    },
    /// The file system is full.
    NoSpace {
        /// What could not be done.
        said: String,
    },
    /// Another process listens on a port of it.
    PortInUse {
        /// The port.
        port: u16,
    },
    /// A file, a directory or a port is not open to its user.
    NotPermitted {
        /// What could not be done.
        said: String,
    },
    /// It refuses its table of nodes.
    TableRefused,
}

impl WhyNotStarted {
    /// Whether the data on its disk is what it can't load. Another engine, or a repair of the files, may change that.
    pub fn is_of_the_data(&self) -> bool {
        match self {
            Self::CorruptAof { .. } | Self::CorruptRdb { .. } | Self::RdbTooNew { .. } => true,
            Self::BadConfig { .. }
            | Self::BadUsers { .. }
            | Self::NoSpace { .. }
            | Self::PortInUse { .. }
            | Self::NotPermitted { .. }
            | Self::TableRefused => false,
        }
    }
}

impl fmt::Display for WhyNotStarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadConfig {
                line: Some(ConfigLine { number, text }),
                said,
            } => write!(
                f,
                "its configuration is not accepted, in line {number} ({text}): {said}"
            ),
            Self::BadConfig { line: None, said } => {
                write!(f, "its configuration is not accepted: {said}")
            }
            Self::BadUsers { said } => write!(f, "its users are not accepted: {said}"),
            Self::CorruptAof {
                file: Some(file),
                said,
            } => write!(f, "its append-only file {file} is damaged: {said}"),
            Self::CorruptAof { file: None, said } => {
                write!(f, "the manifest of its append-only file is damaged: {said}")
            }
            Self::CorruptRdb { said } => write!(f, "its RDB file can't be read: {said}"),
            Self::RdbTooNew { format } => write!(
                f,
                "a newer or another engine wrote its data: RDB format version {format} can't be read"
            ),
            Self::NoSpace { said } => write!(f, "the disk is full: {said}"),
            Self::PortInUse { port } => write!(f, "port {port} is in use"),
            Self::NotPermitted { said } => write!(f, "it lacks a permission: {said}"),
            Self::TableRefused => f.write_str("it refuses its own table of nodes"),
        }
    }
}

/// Why a server's last process ended before it served, and what may be done about it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct StartFailure {
    /// Why.
    pub why: WhyNotStarted,
    /// What a person may do, as its runtime knows the place: words, and at their end a command. `None` where nothing is
    /// known.
    pub remedy: Option<String>,
}
