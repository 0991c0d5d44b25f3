//! A small reader of the servers' protocol, for samples and fuzzing. Total: broken bytes end it.

use shardwright_topology::wire::Reply;

/// How deep replies may nest: real ones have four levels.
const DEPTH_MAX: u8 = 16;

/// The replies that stand in these bytes, up to the first that is broken.
pub(crate) fn read(mut bytes: &[u8]) -> Vec<Reply> {
    let mut replies = Vec::new();
    while let Some(reply) = one(&mut bytes, 0) {
        replies.push(reply);
    }
    replies
}

fn one(rest: &mut &[u8], depth: u8) -> Option<Reply> {
    let head = line(rest)?;
    let (kind, text) = head.split_first()?;
    let number = || std::str::from_utf8(text).ok()?.parse::<i64>().ok();
    match kind {
        b':' => Some(Reply::Int(number()?)),
        b'+' => Some(Reply::Text(text.to_vec())),
        b'_' => Some(Reply::Nil),
        b'$' => {
            let Ok(length) = usize::try_from(number()?) else {
                return Some(Reply::Nil);
            };
            let (text, tail) = rest.split_at_checked(length)?;
            *rest = tail.strip_prefix(b"\r\n")?;
            Some(Reply::Text(text.to_vec()))
        }
        b'*' if depth < DEPTH_MAX => (0..number()?)
            .map(|_| one(rest, depth + 1))
            .collect::<Option<_>>()
            .map(Reply::List),
        b'%' if depth < DEPTH_MAX => (0..number()?)
            .map(|_| Some((one(rest, depth + 1)?, one(rest, depth + 1)?)))
            .collect::<Option<_>>()
            .map(Reply::Map),
        _ => None,
    }
}

fn line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.windows(2).position(|w| w == b"\r\n")?;
    let (line, tail) = rest.split_at(end);
    *rest = &tail[2..];
    Some(line)
}
