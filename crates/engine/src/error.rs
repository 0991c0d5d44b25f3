//! What can go wrong between us and one server.

use std::fmt;
use std::io::ErrorKind;
use std::time::Duration;

use redis::{RedisError, ServerError};
use shardwright_topology::Why;

use crate::{Close, Endpoint, Refusal};

/// Why no connection could be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// A living host said that nothing listens there: a fact.
    Refused,
    /// Nothing answered in time: the server may be well. Unknown.
    TimedOut,
    /// It took the connection, and did not answer the TLS handshake in time: a port without TLS waits for more, and so
    /// does whoever can't reach a frozen server. Unknown.
    NoHandshake,
    /// The host name could not be turned into an address; the text is the resolver's.
    Name(String),
    /// The system says why (no route, network down).
    Other(String),
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str(
                "connection refused, so no server listens there; start it or check the port",
            ),
            Self::TimedOut => f.write_str(
                "no answer in time; check that the host is up and that no firewall is between",
            ),
            Self::NoHandshake => f.write_str(
                "it takes the connection, and does not answer the TLS handshake; is it a port without TLS?",
            ),
            Self::Name(why) => write!(f, "its name cannot be looked up ({why}); check the name"),
            Self::Other(why) => write!(f, "{why}; check the host and the network"),
        }
    }
}

/// A call to a server that did not give what it asked for.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// No connection could be opened. Nothing was sent.
    #[error("cannot reach {endpoint}: {why}")]
    Unreachable {
        /// Where.
        endpoint: Endpoint,
        /// Why.
        why: Unreachable,
    },
    /// The TLS handshake failed. Nothing was sent.
    #[error("no TLS with {endpoint}: {why}; check the port, the CA and the server's names")]
    Tls {
        /// Where.
        endpoint: Endpoint,
        /// What the TLS library says.
        why: String,
    },
    /// The connection closed before the reply came: the command may have been executed or not.
    #[error("{endpoint} did not answer {command}: {close}; look again before repeating it{}", hint(*close))]
    Closed {
        /// Where.
        endpoint: Endpoint,
        /// The command that has no reply.
        command: &'static str,
        /// How it closed.
        close: Close,
    },
    /// No reply in time: the command may have been executed, or still be.
    #[error("{endpoint} did not answer {command} within {} ms; the server may be busy, frozen or cut off: look again before repeating it", limit.as_millis())]
    TimedOut {
        /// Where.
        endpoint: Endpoint,
        /// The command that has no reply.
        command: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// The server wants a password, or other credentials than it was given.
    #[error("{endpoint} does not let {} in ({said}); check user and password", user.as_deref().unwrap_or("the default user"))]
    Auth {
        /// Where.
        endpoint: Endpoint,
        /// The user, where one was named.
        user: Option<String>,
        /// The server's words.
        said: String,
    },
    /// The user may not use this command.
    #[error(
        "{endpoint} forbids {command} to this user ({said}); give the user the right to it, or another user"
    )]
    NoPerm {
        /// Where.
        endpoint: Endpoint,
        /// The command.
        command: &'static str,
        /// The server's words.
        said: String,
    },
    /// The server has no such command, or not under this name.
    #[error(
        "{endpoint} does not know {command} ({said}); it was renamed or taken away there (rename-command), or the version has none: give the command back its name, then run this again"
    )]
    UnknownCommand {
        /// Where.
        endpoint: Endpoint,
        /// The command.
        command: &'static str,
        /// The server's words, without the arguments that it repeats: a password may be among them.
        said: String,
    },
    /// The server does not run in cluster mode.
    #[error("{endpoint} does not run in cluster mode; start it with `cluster-enabled yes`")]
    NotCluster {
        /// Where.
        endpoint: Endpoint,
    },
    /// The server is loading its data and does not serve yet.
    #[error("{endpoint} is loading its data; wait until it is done")]
    Loading {
        /// Where.
        endpoint: Endpoint,
    },
    /// The server refused the command; nothing was done.
    #[error("{endpoint} refused {command}: {code} {message}")]
    Server {
        /// Where.
        endpoint: Endpoint,
        /// The command.
        command: &'static str,
        /// The first word of the reply, such as `ERR`.
        code: String,
        /// The rest of the reply.
        message: String,
    },
    /// The reply is not of the kind that this command has.
    #[error("{endpoint} answered {command} strangely ({what}); is it really Redis or Valkey?")]
    Protocol {
        /// Where.
        endpoint: Endpoint,
        /// The command.
        command: &'static str,
        /// What came.
        what: String,
    },
}

/// What may be done after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Nothing was done, and the same call may work a little later.
    Later,
    /// It is not known whether it was done: observe, then decide anew.
    LookFirst,
    /// The same call will fail again until a person changes something.
    Never,
}

impl Error {
    /// Whether a `MIGRATE` left keys where they were because the target has keys of the same names.
    pub fn is_busy_key(&self) -> bool {
        matches!(self, Self::Server { message, .. } if message.contains("BUSYKEY"))
    }

    /// Whether the server has fewer databases than the one that was asked for.
    pub fn is_no_database(&self) -> bool {
        matches!(self, Self::Server { message, .. } if message.contains("DB index is out of range"))
    }

    /// What may be done after this error.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Unreachable { .. } | Self::Loading { .. } => Retry::Later,
            Self::Closed { .. } | Self::TimedOut { .. } => Retry::LookFirst,
            Self::Tls { .. }
            | Self::Auth { .. }
            | Self::NoPerm { .. }
            | Self::UnknownCommand { .. }
            | Self::NotCluster { .. }
            | Self::Protocol { .. } => Retry::Never,
            Self::Server { code, message, .. } => Refusal::of(code, message).retry(),
        }
    }

    /// Whether the server itself refused the command, in a way that says nothing more where it is said again and again:
    /// a state that would pass has passed by then. Not so where it only asks for time.
    pub fn is_refusal(&self) -> bool {
        match self {
            // The receiver of keys was not reached from there: what lies between them is no matter of time.
            Self::Server { code, .. } if code == "IOERR" => true,
            Self::Server { code, message, .. } => {
                Refusal::of(code, message).retry() != Retry::Later
            }
            Self::NoPerm { .. } | Self::UnknownCommand { .. } | Self::Auth { .. } => true,
            Self::Unreachable { .. }
            | Self::Tls { .. }
            | Self::Closed { .. }
            | Self::TimedOut { .. }
            | Self::NotCluster { .. }
            | Self::Loading { .. }
            | Self::Protocol { .. } => false,
        }
    }

    /// Whether the server takes this command from nobody, or not from this user.
    pub fn is_withheld(&self) -> bool {
        matches!(self, Self::NoPerm { .. } | Self::UnknownCommand { .. })
    }

    /// The server that the error is about.
    pub fn endpoint(&self) -> &Endpoint {
        match self {
            Self::Unreachable { endpoint, .. }
            | Self::Tls { endpoint, .. }
            | Self::Closed { endpoint, .. }
            | Self::TimedOut { endpoint, .. }
            | Self::Auth { endpoint, .. }
            | Self::NoPerm { endpoint, .. }
            | Self::UnknownCommand { endpoint, .. }
            | Self::NotCluster { endpoint }
            | Self::Loading { endpoint }
            | Self::Server { endpoint, .. }
            | Self::Protocol { endpoint, .. } => endpoint,
        }
    }

    /// The same as a reason for not knowing what the server would have said.
    pub fn why(&self) -> Why {
        match self {
            Self::Unreachable { why, .. } => match why {
                Unreachable::Refused => Why::Refused,
                Unreachable::TimedOut | Unreachable::NoHandshake => Why::TimedOut,
                Unreachable::Name(_) | Unreachable::Other(_) => Why::Unreachable(why.to_string()),
            },
            Self::TimedOut { .. } => Why::TimedOut,
            // Only a way that was dialled ends so: its far end found that nothing listens there.
            Self::Closed {
                close: Close::Network(ErrorKind::ConnectionRefused),
                ..
            } => Why::Refused,
            Self::Closed { close, .. } => Why::Unreachable(close.to_string()),
            Self::Tls { why, .. } => Why::Unreachable(format!("no TLS: {why}")),
            Self::Auth { said, .. } | Self::NoPerm { said, .. } => Why::Denied(said.clone()),
            Self::Loading { .. } => Why::Loading,
            Self::UnknownCommand { command, .. } => {
                Why::Strange(format!("it does not know {command}"))
            }
            Self::NotCluster { .. } => Why::Strange("it does not run in cluster mode".to_owned()),
            Self::Server { code, message, .. } => Refusal::of(code, message).why(code, message),
            Self::Protocol { what, .. } => Why::Strange(what.clone()),
        }
    }
}

/// A plain client at a TLS port is closed without a word.
fn hint(close: Close) -> &'static str {
    match close {
        Close::Ended | Close::Reset => " (a TLS port closes plain connections: use TLS there)",
        Close::Network(_) | Close::Strange => "",
    }
}

/// Whom a reply concerns: what every error names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) user: Option<&'a str>,
    pub(crate) command: &'static str,
}

impl Asked<'_> {
    /// The error for an error reply.
    pub(crate) fn refused(self, code: &str, details: Option<&str>) -> Error {
        let endpoint = self.endpoint.clone();
        let message = details.unwrap_or("(no more words)").to_owned();
        match Refusal::of(code, &message) {
            Refusal::Credentials => Error::Auth {
                endpoint,
                user: self.user.map(str::to_owned),
                said: message,
            },
            Refusal::Forbidden => Error::NoPerm {
                endpoint,
                command: self.command,
                said: message,
            },
            Refusal::Loading => Error::Loading { endpoint },
            Refusal::Unknown => {
                let said = message.split(", with args").next().unwrap_or(&message);
                Error::UnknownCommand {
                    endpoint,
                    command: self.command,
                    said: said.to_owned(),
                }
            }
            _ if message.starts_with("This instance has cluster support disabled") => {
                Error::NotCluster { endpoint }
            }
            // Servers without ACLs say this to AUTH, with the code ERR.
            _ if self.command == "AUTH" => Error::Auth {
                endpoint,
                user: self.user.map(str::to_owned),
                said: message,
            },
            _ => Error::Server {
                endpoint,
                command: self.command,
                code: code.to_owned(),
                message,
            },
        }
    }

    pub(crate) fn server_error(self, error: &ServerError) -> Error {
        self.refused(error.code(), error.details())
    }

    /// The error for a call that the client library gave up. `close` is how the connection ended.
    pub(crate) fn failed(self, error: &RedisError, close: Option<Close>) -> Error {
        let endpoint = self.endpoint.clone();
        let command = self.command;
        match (error.code(), close) {
            (Some(code), _) => self.refused(code, error.detail()),
            (None, Some(close)) => Error::Closed {
                endpoint,
                command,
                close,
            },
            (None, None) if error.is_io_error() => Error::Closed {
                endpoint,
                command,
                close: Close::Ended,
            },
            (None, None) => Error::Protocol {
                endpoint,
                command,
                what: error.to_string(),
            },
        }
    }

    pub(crate) fn strange(self, what: impl fmt::Display) -> Error {
        let mut what = what.to_string();
        if what.len() > 200 {
            let end = (0..=200)
                .rev()
                .find(|at| what.is_char_boundary(*at))
                .unwrap_or(0);
            what.truncate(end);
            what.push('…');
        }
        Error::Protocol {
            endpoint: self.endpoint.clone(),
            command: self.command,
            what,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_refusal_is_about_decides_whether_it_is_tried_again() {
        let endpoint = Endpoint::new("h", 1);
        let asked = Asked {
            endpoint: &endpoint,
            user: None,
            command: "MIGRATE",
        };
        let retry = |code, message| asked.refused(code, Some(message)).retry();
        for (code, message) in [
            (
                "ERR",
                "unknown command 'MIGRATE', with args beginning with: '1'",
            ),
            (
                "ERR",
                "unknown command `MIGRATE`, with args beginning with: `1`",
            ),
            (
                "ERR",
                "unknown subcommand 'MIGRATESLOTS'. Try CLUSTER HELP.",
            ),
            ("ERR", "wrong number of arguments for 'migrate' command"),
            ("ERR", "syntax error"),
            (
                "NOPERM",
                "this user has no permissions to run the 'migrate' command",
            ),
        ] {
            assert_eq!(retry(code, message), Retry::Never, "{code} {message}");
        }
        for code in ["BUSY", "TRYAGAIN", "CLUSTERDOWN", "IOERR", "LOADING"] {
            assert_eq!(retry(code, "some words"), Retry::Later, "{code}");
        }
        assert_eq!(retry("ERR", "Unknown node abc"), Retry::LookFirst);
        assert_eq!(retry("READONLY", "You can't write"), Retry::LookFirst);
    }

    #[test]
    fn what_was_sent_is_not_told_again() {
        let endpoint = Endpoint::new("h", 1);
        let asked = Asked {
            endpoint: &endpoint,
            user: None,
            command: "MIGRATE",
        };
        let said = "unknown command 'MIGRATE', with args beginning with: 'h' '1' 'AUTH' 'hidden' ";
        let text = asked.refused("ERR", Some(said)).to_string();
        assert!(
            text.contains("h:1 does not know MIGRATE (unknown command 'MIGRATE')"),
            "{text}"
        );
        assert!(!text.contains("hidden"), "{text}");
    }
}
