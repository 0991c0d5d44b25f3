//! Writes that a former primary took, and that the primary in its place never had: its next copy drops them.

use std::fmt;

use crate::{NodeId, Timestamp};

/// The smallest write in a replication stream of either engine, in bytes: `*1\r\n$7\r\nFLUSHDB\r\n`. The smallest write
/// to a key takes 19 (`DEL` of the empty key), a `SET` of one letter to another 27. A ping of the stream takes 14, and is none.
pub const WRITE_BYTES_MIN: u64 = 17;

/// Up to how many writes so many bytes of a replication stream may be. They may also be fewer, or none: pings, and deletions
/// of keys that expired, are in the stream too, and the two can't be told apart from outside.
pub fn writes_max(bytes: u64) -> u64 {
    bytes / WRITE_BYTES_MIN
}

/// How many bytes of its stream a former primary alone had.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum DroppedBytes {
    /// All were seen, in bytes: once it is a replica it takes no write any more.
    All(u64),
    /// It took a full copy before all could be seen. How many they were is not known.
    Unknown {
        /// How many were seen before, in bytes: it had no fewer.
        seen: u64,
    },
}

/// Writes that a former primary took, in one run of its process, and that its successor never had.
///
/// A process that was frozen, or cut off, takes the writes that wait in its sockets before it learns that another took
/// its place, and tells the clients that they are done. Replication keeps none of them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DroppedWrites {
    /// The former primary.
    pub node: NodeId,
    /// The primary that took its place.
    pub successor: NodeId,
    /// How many bytes of its replication stream its successor never had.
    pub bytes: DroppedBytes,
    /// The longest time between two of its answers since it last answered as the owner of its slots, in milliseconds.
    pub unreachable_ms: u64,
    /// When that was found.
    pub at: Timestamp,
}

impl DroppedWrites {
    /// Up to how many writes they are; `None` where that is not known.
    pub fn writes_max(&self) -> Option<u64> {
        match self.bytes {
            DroppedBytes::All(bytes) => Some(writes_max(bytes)),
            DroppedBytes::Unknown { .. } => None,
        }
    }
}

impl fmt::Display for DroppedWrites {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (node, successor) = (self.node.short(), self.successor.short());
        match self.bytes {
            DroppedBytes::All(bytes) => write!(
                f,
                "up to {} acknowledged write(s) of the former primary {node} are dropped: {bytes} bytes of its \
                 replication stream, deletions of expired keys included, never reached {successor}, which took its place",
                writes_max(bytes)
            ),
            DroppedBytes::Unknown { seen } => {
                write!(
                    f,
                    "acknowledged writes of the former primary {node} may be dropped, and it is not known how many: it \
                     copied all data of {successor}, which took its place, before its replication stream could be compared"
                )?;
                if seen > 0 {
                    write!(
                        f,
                        " to its end ({seen} bytes of it had not reached {successor} before)"
                    )?;
                }
                Ok(())
            }
        }?;
        match self.unreachable_ms / 1_000 {
            0 => Ok(()),
            seconds => write!(f, "; it had been unreachable for {seconds} s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dropped(bytes: DroppedBytes) -> DroppedWrites {
        DroppedWrites {
            node: NodeId::from_bytes([1; 20]),
            successor: NodeId::from_bytes([2; 20]),
            bytes,
            unreachable_ms: 21_400,
            at: Timestamp(1),
        }
    }

    #[test]
    fn no_write_is_smaller_than_the_bound() {
        let flush = "*1\r\n$7\r\nFLUSHDB\r\n".len() as u64;
        assert_eq!(flush, WRITE_BYTES_MIN);
        let ping = "*1\r\n$4\r\nPING\r\n".len() as u64;
        assert_eq!((writes_max(flush), writes_max(ping)), (1, 0));
        let del = "*2\r\n$3\r\nDEL\r\n$0\r\n\r\n".len() as u64;
        assert_eq!(writes_max(3 * del), 3);
    }

    #[test]
    fn what_is_not_known_is_no_number() {
        let all = dropped(DroppedBytes::All(170));
        assert_eq!(all.writes_max(), Some(10));
        let text = all.to_string();
        assert!(text.starts_with("up to 10 acknowledged write(s)"), "{text}");
        assert!(
            text.ends_with("; it had been unreachable for 21 s"),
            "{text}"
        );
        let unknown = dropped(DroppedBytes::Unknown { seen: 0 });
        assert_eq!(unknown.writes_max(), None);
        let text = unknown.to_string();
        assert!(
            text.contains("not known how many") && !text.contains("bytes"),
            "{text}"
        );
        let some = dropped(DroppedBytes::Unknown { seen: 34 }).to_string();
        assert!(some.contains("34 bytes of it had not reached"), "{some}");
    }
}
