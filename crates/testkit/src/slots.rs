//! Keys that fall into a wanted hash slot.

use std::sync::LazyLock;

/// Number of hash slots of a cluster (Redis Cluster specification).
pub const COUNT: u16 = 16_384;

/// The hash slot of a key, with the rule for `{tags}` of the Redis Cluster specification.
#[must_use]
pub fn slot_of(key: &[u8]) -> u16 {
    let tagged = key.iter().position(|b| *b == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let close = rest.iter().position(|b| *b == b'}')?;
        (close > 0).then(|| &rest[..close])
    });
    crc16(tagged.unwrap_or(key)) % COUNT
}

/// The smallest number of each slot, by slot: looking for one anew takes longer than a test that asks for thousands has.
static TAGS: LazyLock<Vec<u32>> = LazyLock::new(|| {
    let mut tags = vec![None; usize::from(COUNT)];
    let mut missing = tags.len();
    for n in 0..=u32::MAX {
        let tag = &mut tags[usize::from(slot_of(n.to_string().as_bytes()))];
        if tag.is_none() {
            *tag = Some(n);
            missing -= 1;
        }
        if missing == 0 {
            break;
        }
    }
    tags.into_iter()
        .map(|tag| tag.expect("decimal numbers reach every slot"))
        .collect()
});

/// A short tag whose hash slot is `slot` (below [`COUNT`]): the key `{TAG}:anything` falls into it.
#[must_use]
pub fn tag_for(slot: u16) -> String {
    TAGS[usize::from(slot)].to_string()
}

/// CRC-16/XMODEM, bit by bit: tests need no table.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(slot_of(b"foo"), 12182);
        assert_eq!(slot_of(b"{foo}.bar"), 12182);
        assert_eq!(slot_of(b"{}foo"), crc16(b"{}foo") % COUNT);
        for slot in [0, 5460, 16_383] {
            assert_eq!(slot_of(format!("{{{}}}:7", tag_for(slot)).as_bytes()), slot);
        }
    }
}
