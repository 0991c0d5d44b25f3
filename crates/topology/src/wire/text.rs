//! Reading of lines, numbers and hosts, byte by byte.

use crate::Host;

/// The lines of a reply with their numbers from 1, without line ends. Empty lines are passed over.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let whole = rest?;
        let end = line_end(whole);
        rest = whole.get(end + 1..);
        let line = &whole[..end];
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    })
    .enumerate()
    .filter(|(_, line)| !line.is_empty())
    .map(|(i, line)| (i + 1, line))
}

/// Where the first line ends. Eight bytes at a time: tables of a thousand nodes are a hundred megabytes.
fn line_end(text: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const TOPS: u64 = u64::from_ne_bytes([0x80; 8]);
    const ENDS: u64 = u64::from_ne_bytes([b'\n'; 8]);
    let (eights, rest) = text.as_chunks::<8>();
    for (i, eight) in eights.iter().enumerate() {
        // A byte that is a line end becomes 0, and the lowest 0 is marked (Hacker's Delight, "Find first 0-byte").
        let word = u64::from_le_bytes(*eight) ^ ENDS;
        let marks = word.wrapping_sub(ONES) & !word & TOPS;
        if marks != 0 {
            return i * 8 + marks.trailing_zeros() as usize / 8;
        }
    }
    let tail = rest.iter().position(|b| *b == b'\n');
    text.len() - rest.len() + tail.unwrap_or(rest.len())
}

/// Splits at the first `at`.
pub(super) fn split_once(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let i = text.iter().position(|b| *b == at)?;
    Some((&text[..i], &text[i + 1..]))
}

/// Splits at the last `at`.
pub(super) fn rsplit_once(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let i = text.iter().rposition(|b| *b == at)?;
    Some((&text[..i], &text[i + 1..]))
}

/// A number of decimal digits alone, that fits.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let mut n: u64 = 0;
    for d in digits {
        let d = d.wrapping_sub(b'0');
        if d > 9 {
            return None;
        }
        n = n.checked_mul(10)?.checked_add(u64::from(d))?;
    }
    Some(n)
}

/// A replication offset. The engines write -1 where there is none yet: nothing was read, so it is 0.
pub(super) fn offset(digits: &[u8]) -> Option<u64> {
    match digits.strip_prefix(b"-") {
        Some(rest) => number(rest).map(|_| 0),
        None => number(digits),
    }
}

/// A port, 0 included.
pub(super) fn port(digits: &[u8]) -> Option<u16> {
    number(digits).and_then(|n| u16::try_from(n).ok())
}

/// An IPv4 address as the standard library reads it (no leading zeros), in a fraction of the time.
pub(super) fn ipv4(text: &[u8]) -> Option<std::net::Ipv4Addr> {
    if text.len() > "255.255.255.255".len() {
        return None;
    }
    let mut octets = [0_u8; 4];
    let mut i = 0;
    let (mut value, mut digits) = (0_u32, 0);
    for b in text {
        match *b {
            b'.' if digits > 0 && i < 3 => {
                octets[i] = u8::try_from(value).ok()?;
                i += 1;
                (value, digits) = (0, 0);
            }
            d @ b'0'..=b'9' if digits == 0 || (value > 0 && digits < 3) => {
                value = value * 10 + u32::from(d - b'0');
                digits += 1;
            }
            _ => return None,
        }
    }
    if i != 3 || digits == 0 {
        return None;
    }
    octets[3] = u8::try_from(value).ok()?;
    Some(octets.into())
}

/// A host as the engines write it. Not text: none.
pub(super) fn host(text: &[u8]) -> Option<Host> {
    std::str::from_utf8(text).ok().map(Host::parse)
}

/// A host name, or none where the engine writes nothing. Not text: an error.
pub(super) fn hostname(text: &[u8]) -> Result<Option<Box<str>>, std::str::Utf8Error> {
    if text.is_empty() {
        return Ok(None);
    }
    std::str::from_utf8(text).map(|name| Some(name.into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn ipv4_is_the_standard_librarys(text in "([0-9]{0,4}[.]){0,4}[0-9]{0,16}|[0-2]?[0-9]?[0-9][.][1-9][0-9]{0,2}[.]0{1,2}[.]2?[0-9]{1,2}") {
            prop_assert_eq!(ipv4(text.as_bytes()), text.parse().ok());
        }

        #[test]
        fn lines_are_those_of_a_split(text in "[a\r\n]{0,40}") {
            let split: Vec<(usize, &[u8])> = text
                .split('\n')
                .map(|l| l.strip_suffix('\r').unwrap_or(l).as_bytes())
                .enumerate()
                .map(|(i, l)| (i + 1, l))
                .filter(|(_, l)| !l.is_empty())
                .collect();
            prop_assert_eq!(lines(text.as_bytes()).collect::<Vec<_>>(), split);
        }

        #[test]
        fn numbers_are_the_standard_librarys(text in "[0-9]{0,22}|[0-9a-]{1,4}") {
            prop_assert_eq!(number(text.as_bytes()), text.parse().ok());
        }
    }
}
