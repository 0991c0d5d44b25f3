//! Keys so great that a move of one keeps its source from everyone else for seconds.

use std::time::Duration;

use shardwright_topology::Slot;

use super::{MoveError, Pair};
use crate::{Client, Error};

/// A key that takes less in memory moves within a fraction of the shortest node-timeout, whatever it is.
const SMALL_BYTES: u64 = 8 << 20;
/// So fast a source and a target write and read a value of many small elements, in bytes of memory per millisecond. On
/// two busy cores Redis 7.0 moved a hash by 15 000 and a sorted set by 40 000, Valkey 9.1 by 37 000 and 64 000.
const BYTES_PER_MS: u64 = 30_000;
/// The same of a string, which is one piece: 140 000 to 170 000 there.
const STRING_BYTES_PER_MS: u64 = 120_000;
/// What is taken for the node-timeout of a server that does not tell it: Shardwright's own default, the shortest that is
/// usual.
const UNTOLD: Duration = Duration::from_secs(5);

/// How long a source and a target may be silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// After so much silence one of them is taken for dead.
    pub node_timeout: Duration,
}

/// Asks both ends after how much silence they are taken for dead.
pub async fn bounds(source: &Client, target: &Client) -> Result<Bounds, Error> {
    let (here, there) = tokio::join!(node_timeout(source), node_timeout(target));
    let node_timeout = here?.min(there?);
    Ok(Bounds { node_timeout })
}

async fn node_timeout(of: &Client) -> Result<Duration, Error> {
    const KEY: &str = "cluster-node-timeout";
    let told = match of.config_get(KEY).await {
        Ok(told) => told,
        Err(error) if error.is_withheld() => return Ok(UNTOLD),
        Err(error) => return Err(error),
    };
    let value = told.into_iter().find(|(key, _)| key == KEY);
    let Some((_, value)) = value else {
        return Ok(UNTOLD);
    };
    let ms = value.parse().map(Duration::from_millis);
    ms.map_err(|_| of.asked("CONFIG GET").strange(format!("{KEY} {value}")))
}

impl Bounds {
    /// Refuses a key of which a move would take longer than that.
    ///
    /// # Errors
    /// [`MoveError::TooGreat`], or what came of asking.
    pub async fn refuse(
        &self,
        source: &Client,
        slot: Slot,
        key: &[u8],
        bytes: u64,
    ) -> Result<(), MoveError> {
        if bytes <= SMALL_BYTES || time(bytes, BYTES_PER_MS) < self.node_timeout {
            return Ok(());
        }
        let per_ms = if source.is_string(key).await? {
            STRING_BYTES_PER_MS
        } else {
            BYTES_PER_MS
        };
        let takes = time(bytes, per_ms);
        if takes < self.node_timeout {
            return Ok(());
        }
        Err(MoveError::TooGreat {
            key: format!("{:?}", String::from_utf8_lossy(key)),
            slot,
            bytes,
            at: source.endpoint().clone(),
            takes,
            node_timeout: self.node_timeout,
        })
    }
}

fn time(bytes: u64, per_ms: u64) -> Duration {
    Duration::from_millis(bytes / per_ms)
}

impl Pair<'_> {
    /// After how much silence one of the two ends is taken for dead.
    pub(super) async fn bounds(&self) -> Result<Bounds, Error> {
        bounds(self.source, self.target).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_small_for_any_node_timeout_is_never_looked_at() {
        assert!(time(SMALL_BYTES, BYTES_PER_MS) < Duration::from_millis(300));
    }
}
