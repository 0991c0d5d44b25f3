//! Reading of lines, numbers and hosts, byte by byte.

use crate::Host;

/// The lines of a reply with their numbers from 1, without line ends. Empty lines are passed over.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    text.split(|b| *b == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .enumerate()
        .filter(|(_, line)| !line.is_empty())
        .map(|(i, line)| (i + 1, line))
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
