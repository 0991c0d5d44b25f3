//! What is wrong with a reply, and where.

use std::fmt;

/// The command whose reply was read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Command {
    /// `CLUSTER NODES`.
    ClusterNodes,
    /// `CLUSTER INFO`.
    ClusterInfo,
    /// `CLUSTER MYID`.
    ClusterMyId,
    /// `CLUSTER SHARDS`.
    ClusterShards,
    /// `CLUSTER LINKS`.
    ClusterLinks,
    /// `INFO`.
    Info,
    /// `ROLE`.
    Role,
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClusterNodes => "CLUSTER NODES",
            Self::ClusterInfo => "CLUSTER INFO",
            Self::ClusterMyId => "CLUSTER MYID",
            Self::ClusterShards => "CLUSTER SHARDS",
            Self::ClusterLinks => "CLUSTER LINKS",
            Self::Info => "INFO",
            Self::Role => "ROLE",
        })
    }
}

/// What is wrong with a field.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Fault {
    /// It is not there.
    Missing,
    /// It is there more than once.
    Repeated,
    /// It is there, but is not what it has to be: the text says what that is.
    IsNot(&'static str),
}

/// A reply that could not be read: which command's, where in it, and why.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub struct WireError {
    /// The command whose reply it is.
    pub command: Command,
    /// The line of the reply, or the element of its list; the first is 1. None when the reply as a whole is meant.
    pub line: Option<usize>,
    /// The field.
    pub field: &'static str,
    /// What is wrong with it.
    pub fault: Fault,
    /// The beginning of what stood there, bytes that are no text replaced.
    pub excerpt: String,
}

/// How many bytes of the offending text an error shows: enough to recognise it, too few to flood a log.
const EXCERPT_BYTES: usize = 60;

impl WireError {
    pub(super) fn new(
        command: Command,
        line: Option<usize>,
        field: &'static str,
        fault: Fault,
        near: &[u8],
    ) -> Self {
        let cut = &near[..near.len().min(EXCERPT_BYTES)];
        let mut excerpt = String::from_utf8_lossy(cut).into_owned();
        if cut.len() < near.len() {
            excerpt.push('…');
        }
        Self {
            command,
            line,
            field,
            fault,
            excerpt,
        }
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the reply to {} makes no sense", self.command)?;
        if let Some(line) = self.line {
            write!(f, " in line {line}")?;
        }
        match self.fault {
            Fault::Missing => write!(f, ": {} is missing", self.field)?,
            Fault::Repeated => write!(f, ": {} is there twice", self.field)?,
            Fault::IsNot(what) => write!(f, ": {} is not {what}", self.field)?,
        }
        if !self.excerpt.is_empty() {
            write!(f, ", near {:?}", self.excerpt)?;
        }
        f.write_str(
            "; check that a Redis or Valkey server in cluster mode answers there, and its version",
        )
    }
}
