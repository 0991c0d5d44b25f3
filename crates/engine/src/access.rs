//! How to enter a server: who we are, by which transport, and how long anything may take.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// Credentials that are tried where a server does not take [`Access::credentials`]: after a password was changed, a
/// server may have the one or the other.
#[derive(Clone, Debug)]
pub struct Alternative {
    credentials: Credentials,
    /// Whether a server took these last; then they are tried first. Clones share it, and nothing else keeps it.
    accepted: Arc<AtomicBool>,
}

impl Alternative {
    /// These, tried second until a server takes them.
    pub fn new(credentials: Credentials) -> Self {
        Self {
            credentials,
            accepted: Arc::default(),
        }
    }

    /// Whom to log in as.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    pub(crate) fn was_accepted(&self) -> bool {
        self.accepted.load(Ordering::Relaxed)
    }

    pub(crate) fn note(&self, accepted: bool) {
        self.accepted.store(accepted, Ordering::Relaxed);
    }
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
    /// What a server may take instead; never tried without [`Access::credentials`].
    pub alternative: Option<Alternative>,
    /// TLS; plain TCP where absent.
    pub tls: Option<Tls>,
    /// The limits.
    pub timeouts: Timeouts,
    /// The way to the servers; a TCP connection to their address where absent.
    pub dial: Option<Arc<dyn Dial>>,
}

impl Access {
    /// The credentials that a server took last, as far as that is known: those that servers use at each other for us.
    pub fn accepted(&self) -> Option<&Credentials> {
        let other = self.alternative.as_ref().filter(|a| a.was_accepted());
        other
            .map(Alternative::credentials)
            .or(self.credentials.as_ref())
    }

    /// Whether both log in in the same way.
    pub fn has_same_credentials(&self, other: &Self) -> bool {
        let second = |access: &Self| access.alternative.as_ref().map(|a| a.credentials.clone());
        self.credentials == other.credentials && second(self) == second(other)
    }
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

    #[test]
    fn an_alternative_counts_and_is_not_shown() {
        let login = |password: &str| Credentials {
            user: None,
            password: Secret::new(password),
        };
        let with = |alternative: Option<&str>| Access {
            credentials: Some(login("first")),
            alternative: alternative.map(|password| Alternative::new(login(password))),
            ..Access::default()
        };
        assert!(with(Some("hunter2")).has_same_credentials(&with(Some("hunter2"))));
        assert!(!with(Some("hunter2")).has_same_credentials(&with(Some("other"))));
        assert!(!with(Some("hunter2")).has_same_credentials(&with(None)));
        let access = with(Some("hunter2"));
        assert_eq!(access.accepted(), access.credentials.as_ref());
        if let Some(other) = &access.alternative {
            other.note(true);
        }
        assert_eq!(access.accepted(), Some(&login("hunter2")));
        assert!(!format!("{:?}", with(Some("hunter2"))).contains("hunter2"));
    }
}
