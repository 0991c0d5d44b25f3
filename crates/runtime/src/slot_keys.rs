//! The keys of a slot that was left half moved, some at a time.

use std::time::Duration;

use shardwright_engine::movers::{MoveError, Room, bounds, why_not_moved};
use shardwright_engine::{Client, Credentials, Endpoint, Migrate};
use shardwright_topology::Slot;

use crate::execute::StepError;

/// How long a source may wait for a target that takes in little. It blocks meanwhile, so this is short.
const LIMIT: Duration = Duration::from_secs(1);
/// What a slow target takes in of one great value, in bytes per millisecond.
const SLOW_BYTES_PER_MS: u64 = 10_000;
/// How many bytes of memory go by one command: the source serves nobody else meanwhile. A greater key goes alone.
const TOGETHER_BYTES: u64 = 1 << 20;
/// How many bytes go in one pass, unless it is one key: then the cluster is looked at again.
const PASS_BYTES: u64 = 16 << 20;

/// Which keys of a slot go, and where.
pub(crate) struct SomeKeys<'a> {
    pub(crate) slot: Slot,
    /// At most so many.
    pub(crate) most: u32,
    /// Whether the receiver's values of the same keys are replaced.
    pub(crate) replace: bool,
    /// Whether the receiver's memory limit is kept.
    pub(crate) keeps_limit: bool,
    /// The receiver, as the source reaches it.
    pub(crate) to: Endpoint,
    pub(crate) credentials: Option<&'a Credentials>,
}

impl SomeKeys<'_> {
    /// Moves them. A key that is too great keeps none of the others from going: it is refused once it is all that is
    /// left.
    pub(crate) async fn go(&self, source: &Client, target: &Client) -> Result<(), StepError> {
        let keys = source.keys_in_slot(self.slot, self.most).await?;
        if keys.is_empty() {
            return Ok(());
        }
        let sizes = source
            .memory_usage_of(keys.iter().map(Vec::as_slice))
            .await?;
        let average = if sizes.contains(&None) {
            source.average_key_bytes().await?
        } else {
            0
        };
        let bounds = bounds(source, target).await?;
        let mut room = Room::new(self.keeps_limit);
        let (mut together, mut bytes, mut gone) = (Vec::new(), 0_u64, 0_u64);
        let mut greatest = 0;
        let mut refused = None;
        for (key, size) in keys.into_iter().zip(sizes) {
            let size = size.unwrap_or(average);
            if let Err(why) = bounds.refuse(source, self.slot, &key, size).await {
                match why {
                    MoveError::TooGreat { .. } => refused = Some(why),
                    other => return Err(moved(other)),
                }
                continue;
            }
            if gone > 0 && gone.saturating_add(size) > PASS_BYTES {
                break;
            }
            gone = gone.saturating_add(size).max(1);
            if !together.is_empty() && bytes.saturating_add(size) > TOGETHER_BYTES {
                room.require(target, bytes, greatest).await.map_err(moved)?;
                self.send(source, target, &together, bytes).await?;
                together.clear();
                (bytes, greatest) = (0, 0);
            }
            together.push(key);
            bytes = bytes.saturating_add(size);
            greatest = greatest.max(size);
        }
        if !together.is_empty() {
            room.require(target, bytes, greatest).await.map_err(moved)?;
            return self.send(source, target, &together, bytes).await;
        }
        match refused.filter(|_| gone == 0) {
            Some(why) => Err(StepError::Move(why)),
            None => Ok(()),
        }
    }

    async fn send(
        &self,
        source: &Client,
        target: &Client,
        keys: &[Vec<u8>],
        bytes: u64,
    ) -> Result<(), StepError> {
        let what = Migrate {
            to: &self.to,
            keys,
            replace: self.replace,
            limit: LIMIT + Duration::from_millis(bytes / SLOW_BYTES_PER_MS),
            credentials: self.credentials,
        };
        match source.migrate(&what).await {
            Ok(_) => Ok(()),
            Err(error) => Err(moved(why_not_moved(target.endpoint(), error))),
        }
    }
}

fn moved(error: MoveError) -> StepError {
    match error {
        MoveError::Node(error) => StepError::Server(error),
        why => StepError::Move(why),
    }
}
