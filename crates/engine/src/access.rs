//! How to enter a server: who we are, by which transport, and how long anything may take.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::{Dial, Tls};

/// A password. It is never shown: not by `Debug`, not in errors, not in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps the text secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the wire and for files that only their owner reads.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Whom to log in as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The ACL user; `None` is the default user, and works with servers older than ACLs.
    pub user: Option<String>,
    /// The password.
    pub password: Secret,
}

/// How long things may take. Every call to a server has one of these limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Name look-up, TCP connection and TLS handshake together.
    pub connect: Duration,
    /// One command, or one batch of commands sent together, from sending to the last reply.
    pub command: Duration,
}

impl Default for Timeouts {
    /// One second to connect and two for a command: a healthy server needs milliseconds for
    /// either, and a pass over a cluster with a silent node still ends within seconds.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(1),
            command: Duration::from_secs(2),
        }
    }
}

/// Everything needed to enter any server of one cluster.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Whom to log in as; nobody where absent.
    pub credentials: Option<Credentials>,
    /// TLS; plain TCP where absent.
    pub tls: Option<Tls>,
    /// The limits.
    pub timeouts: Timeouts,
    /// The way to the servers; a TCP connection to their address where absent.
    pub dial: Option<Arc<dyn Dial>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let access = Access {
            credentials: Some(Credentials {
                user: None,
                password: Secret::new("hunter2"),
            }),
            ..Access::default()
        };
        assert!(!format!("{access:?}").contains("hunter2"));
    }
}
