//! What is known, and why the rest is not.

use std::fmt;

/// Something that was looked at: known, or unknown for a reason. Unknown is never zero, false or empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen<T> {
    /// It was seen.
    Known(T),
    /// It could not be seen.
    Unknown(Why),
}

/// Why something is unknown.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Why {
    /// Nobody has looked yet.
    NotAsked,
    /// No answer came in time: the server may be well, frozen or cut off.
    TimedOut,
    /// The host answered that nothing listens there.
    Refused,
    /// The host or its name could not be reached or found; the text says how.
    Unreachable(String),
    /// The server wants other credentials; the text is its own.
    Denied(String),
    /// The server is loading its data set.
    Loading,
    /// The server runs a script or a function for longer than it should, and answers nothing else; the text is its own.
    Busy(String),
    /// The server answered something else than was asked for; the text says what.
    Strange(String),
}

impl<T> Seen<T> {
    /// The value, if known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unknown(_) => None,
        }
    }
}

impl Why {
    /// Whether a server answered, though not what was asked for: then its process lives, and what it holds is there.
    pub fn is_an_answer(&self) -> bool {
        match self {
            Self::Denied(_) | Self::Loading | Self::Busy(_) | Self::Strange(_) => true,
            Self::NotAsked | Self::TimedOut | Self::Refused | Self::Unreachable(_) => false,
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAsked => f.write_str("not looked at yet"),
            Self::TimedOut => f.write_str("no answer in time"),
            Self::Refused => f.write_str("connection refused"),
            Self::Unreachable(how) => write!(f, "unreachable ({how})"),
            Self::Denied(how) => write!(f, "not let in ({how})"),
            Self::Loading => f.write_str("loading its data"),
            Self::Busy(said) => write!(f, "busy with a script or a function ({said})"),
            Self::Strange(what) => write!(f, "answered strangely ({what})"),
        }
    }
}
