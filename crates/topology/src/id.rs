//! Identities: node ids, shard ids and config epochs.

use std::fmt;
use std::str::FromStr;

/// The identity of a node: 160 bits, written as 40 hexadecimal digits. It outlives addresses and restarts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; 20]);

/// Text that is not 40 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a node id is 40 hexadecimal digits")]
pub struct InvalidNodeId;

impl NodeId {
    /// The id of these 20 bytes.
    pub const fn from_bytes(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }

    /// Parses 40 hexadecimal digits.
    pub fn parse(text: &[u8]) -> Result<Self, InvalidNodeId> {
        let text: &[u8; 40] = text.try_into().map_err(|_| InvalidNodeId)?;
        let mut id = [0_u8; 20];
        let mut all = 0;
        for (byte, pair) in id.iter_mut().zip(text.as_chunks::<2>().0) {
            let (high, low) = (HEX[usize::from(pair[0])], HEX[usize::from(pair[1])]);
            all |= high | low;
            *byte = (high << 4) | (low & 0xf);
        }
        if all & NO_DIGIT == 0 {
            Ok(Self(id))
        } else {
            Err(InvalidNodeId)
        }
    }

    /// The first eight digits: enough for a person to tell nodes apart.
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }
}

/// Marks a byte that is no hexadecimal digit.
const NO_DIGIT: u8 = 0x80;

/// The value of each byte as a hexadecimal digit. A table, because a thousand nodes' tables hold millions of ids.
const HEX: [u8; 256] = {
    let mut table = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        table[b"0123456789abcdef"[value as usize] as usize] = value;
        table[b"0123456789ABCDEF"[value as usize] as usize] = value;
        value += 1;
    }
    table
};

impl FromStr for NodeId {
    type Err = InvalidNodeId;
    fn from_str(text: &str) -> Result<Self, InvalidNodeId> {
        Self::parse(text.as_bytes())
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

/// The identity of a shard, as newer engines tell it (`shard-id`); older engines have none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ShardId(NodeId);

impl ShardId {
    /// Parses 40 hexadecimal digits.
    pub fn parse(text: &[u8]) -> Result<Self, InvalidNodeId> {
        NodeId::parse(text).map(Self)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A configuration epoch: of two nodes that claim a slot, the one with the greater epoch has it
/// (Redis Cluster specification, "Configuration epoch").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ConfigEpoch(pub u64);

impl fmt::Display for ConfigEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for ConfigEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {}", self.0)
    }
}
