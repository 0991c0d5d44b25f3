//! What a person asks an operator for, once: an annotation of the object, which goes when it was answered. Pure.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use shardwright_planner::Manner;

use crate::object::ClusterObject;

/// The annotation that asks for a failover: `POD`, `POD,force` or `POD,takeover`; a node id or its beginning will do
/// for the pod. The last two may go on with `,primary-is-dead=TIME`: a person knew at that time that the pod's primary
/// is dead, though nothing proves it.
pub const FAILOVER: &str = "shardwright.dev/failover";
/// The annotation that asks for word once all is mended that can be. Its value is any text, such as the time.
pub const FIX: &str = "shardwright.dev/fix";
/// The annotation that lets the operator go on without data that can't be had any more. Its value is the time at
/// which a person said so.
pub const ACCEPT_DATA_LOSS: &str = "shardwright.dev/accept-data-loss";
/// The annotation that says whether slots may move. It stays until it is taken away.
pub const MOVES: &str = "shardwright.dev/moves";
/// Its one value: no further slots are given out.
pub const PAUSED: &str = "paused";
/// All of those that ask for something once, in the order in which they are answered: coverage comes first.
pub const KEYS: [&str; 3] = [ACCEPT_DATA_LOSS, FAILOVER, FIX];

/// The type of the condition that answers.
pub const ANSWER: &str = "RequestDone";
/// Its reason while the request is worked on.
pub const UNDER_WAY: &str = "UnderWay";
/// Its reason when no node is meant.
pub const NO_SUCH_NODE: &str = "NoSuchNode";
/// Its reason when the request can't be read.
pub const UNREADABLE: &str = "Unreadable";

/// What stands before the time at which a person stated that a primary is dead.
const PRIMARY_IS_DEAD: &str = "primary-is-dead=";

/// How long a consent holds. One that stays in a document would be given for losses that nobody has seen.
const CONSENT_HOLDS: SignedDuration = SignedDuration::from_mins(10);
/// How far the clocks of a person and of an operator may be apart.
const CLOCKS_APART: SignedDuration = SignedDuration::from_mins(2);

/// A request as it stands on the object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    /// The annotation.
    pub key: &'static str,
    /// Its value.
    pub text: String,
}

/// What is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wish {
    /// Make this replica the primary of its shard.
    Failover {
        /// A pod, a node id or its beginning, or an address.
        node: String,
        /// How.
        manner: Manner,
        /// Whether a person stated that its primary is dead.
        primary_is_dead: bool,
    },
    /// Say when all is mended that can be.
    Fix,
    /// The same, and go on without data that can't be had any more.
    AcceptDataLoss,
}

/// A request that can't be honoured.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WishError {
    /// It names no node.
    #[error(
        "write POD, POD,force or POD,takeover; after the last two ,primary-is-dead=TIME states that its primary is dead, \
         TIME being now, such as {}",
        Timestamp::UNIX_EPOCH
    )]
    Failover,
    /// It does not say when.
    #[error(
        "the value is the time at which it was accepted, such as {}",
        Timestamp::UNIX_EPOCH
    )]
    NoTime,
    /// It says so of another time.
    #[error(
        "said at {given}, which is not now: it holds for {minutes} minutes",
        minutes = CONSENT_HOLDS.as_mins()
    )]
    NotNow {
        /// When.
        given: Timestamp,
    },
}

impl Asked {
    /// The request that is to be answered first.
    pub fn first(object: &ClusterObject) -> Option<Self> {
        KEYS.into_iter().find_map(|key| {
            let text = object.wishes.get(key)?.clone();
            Some(Self { key, text })
        })
    }

    /// A failover to this node.
    pub fn failover(node: &str, manner: Manner) -> Self {
        let how = match manner {
            Manner::Switchover => "",
            Manner::Force => ",force",
            Manner::Takeover => ",takeover",
        };
        Self {
            key: FAILOVER,
            text: format!("{node}{how}"),
        }
    }

    /// The same failover past its primary, with a person's statement, made at this time, that the primary is dead.
    #[must_use]
    pub fn stating_death(self, at: Timestamp) -> Self {
        let at = at.strftime("%Y-%m-%dT%H:%M:%SZ");
        Self {
            text: format!("{},{PRIMARY_IS_DEAD}{at}", self.text),
            ..self
        }
    }

    /// All that can be mended, at this time.
    pub fn fix(accept_data_loss: bool, now: Timestamp) -> Self {
        let key = if accept_data_loss {
            ACCEPT_DATA_LOSS
        } else {
            FIX
        };
        let text = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        Self { key, text }
    }

    /// What it asks for.
    pub fn read(&self, now: Timestamp) -> Result<Wish, WishError> {
        match self.key {
            FAILOVER => failover(&self.text, now),
            ACCEPT_DATA_LOSS => {
                let given: Timestamp = self.text.trim().parse().map_err(|_| WishError::NoTime)?;
                must_be_of_now(given, now)?;
                Ok(Wish::AcceptDataLoss)
            }
            _ => Ok(Wish::Fix),
        }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.key.rsplit('/').next().unwrap_or(self.key);
        write!(f, "{word} {}", self.text)
    }
}

/// What a person said holds for a while only.
fn must_be_of_now(given: Timestamp, now: Timestamp) -> Result<(), WishError> {
    let age = now.duration_since(given);
    if age > CONSENT_HOLDS || age < -CLOCKS_APART {
        return Err(WishError::NotNow { given });
    }
    Ok(())
}

fn failover(text: &str, now: Timestamp) -> Result<Wish, WishError> {
    let mut words = text.split(',').map(str::trim);
    let node = words.next().filter(|node| !node.is_empty());
    let node = node.ok_or(WishError::Failover)?.to_owned();
    let manner = match words.next() {
        None | Some("") => Manner::Switchover,
        Some("force") => Manner::Force,
        Some("takeover") => Manner::Takeover,
        Some(_) => return Err(WishError::Failover),
    };
    let stated = words.next();
    // A switchover needs the primary, and so has no use for the statement.
    if words.next().is_some() || stated.is_some() && manner == Manner::Switchover {
        return Err(WishError::Failover);
    }
    if let Some(stated) = stated {
        let time = stated.strip_prefix(PRIMARY_IS_DEAD);
        let given: Option<Timestamp> = time.and_then(|time| time.parse().ok());
        must_be_of_now(given.ok_or(WishError::Failover)?, now)?;
    }
    Ok(Wish::Failover {
        node,
        manner,
        primary_is_dead: stated.is_some(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-01-01T12:00:00Z";

    fn read(key: &'static str, text: &str) -> Result<Wish, WishError> {
        let text = text.to_owned();
        Asked { key, text }.read(NOW.parse().expect("a time"))
    }

    #[test]
    fn what_is_written_is_read_back() {
        for manner in [Manner::Switchover, Manner::Force, Manner::Takeover] {
            let asked = Asked::failover("redis-4", manner);
            let wish = read(asked.key, &asked.text);
            let failover = |primary_is_dead| Wish::Failover {
                node: "redis-4".to_owned(),
                manner,
                primary_is_dead,
            };
            assert_eq!(wish, Ok(failover(false)));
            if manner != Manner::Switchover {
                let stated = asked.stating_death(NOW.parse().expect("a time"));
                assert_eq!(read(stated.key, &stated.text), Ok(failover(true)));
            }
        }
        let now = NOW.parse().expect("a time");
        let asked = Asked::fix(true, now);
        assert_eq!(asked.to_string(), format!("accept-data-loss {NOW}"));
        assert_eq!(asked.read(now), Ok(Wish::AcceptDataLoss));
        assert_eq!(Asked::fix(false, now).read(now), Ok(Wish::Fix));
    }

    #[test]
    fn a_failover_names_a_node_and_a_known_manner() {
        for text in [
            "",
            " ",
            ",force",
            "redis-4,forced",
            "redis-4,force,takeover",
            "redis-4,takeover,primary-is-dead",
            "redis-4,takeover,primary-is-dead=yes",
            "redis-4,,primary-is-dead=2026-01-01T12:00:00Z",
            "redis-4,primary-is-dead=2026-01-01T12:00:00Z",
            "redis-4,takeover,primary-is-dead=2026-01-01T12:00:00Z,",
        ] {
            assert_eq!(read(FAILOVER, text), Err(WishError::Failover), "{text:?}");
        }
    }

    #[test]
    fn a_statement_that_a_primary_is_dead_is_of_now() {
        for other in ["2026-01-01T11:49:00Z", "2026-01-01T12:03:00Z"] {
            let text = format!("redis-4,takeover,primary-is-dead={other}");
            let refused = read(FAILOVER, &text);
            assert!(matches!(refused, Err(WishError::NotNow { .. })), "{other}");
        }
    }

    #[test]
    fn a_consent_is_of_now() {
        let read = |text: &str| read(ACCEPT_DATA_LOSS, text);
        assert_eq!(read("2026-01-01T11:51:00Z"), Ok(Wish::AcceptDataLoss));
        assert_eq!(read("2026-01-01T12:01:00Z"), Ok(Wish::AcceptDataLoss));
        for other in ["2026-01-01T11:49:00Z", "2026-01-01T12:03:00Z"] {
            assert!(
                matches!(read(other), Err(WishError::NotNow { .. })),
                "{other}"
            );
        }
        for none in ["true", "", "yes"] {
            assert_eq!(read(none), Err(WishError::NoTime), "{none}");
        }
    }
}
