//! The node's own line of `nodes.conf`.
//!
//! A line is `ID ADDRESS FLAGS PRIMARY PING PONG EPOCH LINK SLOT...` (Redis documentation, "CLUSTER NODES"; the file
//! has a line `vars …` more). Fields and flags that later versions add are passed over.

use crate::wire_words::{PRIMARY, REPLICA};

/// How many fields stand before the slots.
const FIELDS_BEFORE_SLOTS: usize = 8;

/// What the table says of the node itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Myself {
    /// The line, as it stands there.
    pub line: String,
    /// Primary or replica.
    pub role: Role,
    /// It owns slots, or has open ones: keys may be here that are nowhere else.
    pub has_slots: bool,
}

/// What the node was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A primary.
    Primary,
    /// A replica.
    Replica,
}

/// The line of the node itself; `None` where there is not exactly one that can be read.
#[must_use]
pub fn myself(text: &str) -> Option<Myself> {
    let mut own = text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let flags = *fields.get(2)?;
        let mine = fields[0] != "vars" && flags.split(',').any(|flag| flag == "myself");
        mine.then_some((line, fields))
    });
    let (line, fields) = own.next()?;
    if own.next().is_some() || fields.len() < FIELDS_BEFORE_SLOTS {
        return None;
    }
    let id = fields[0];
    if id.len() != 40 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let has = |flag: &str| fields[2].split(',').any(|f| f == flag);
    let role = match (has(PRIMARY), has(REPLICA)) {
        (true, false) => Role::Primary,
        (false, true) => Role::Replica,
        (true, true) | (false, false) => return None,
    };
    // `5`, `0-5460`, and open slots: `[93->-ID]`, `[77-<-ID]`.
    let slot = |field: &&str| field.starts_with(|c: char| c.is_ascii_digit() || c == '[');
    Some(Myself {
        line: line.trim().to_owned(),
        role,
        has_slots: fields[FIELDS_BEFORE_SLOTS..].iter().any(slot),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "07c37dfeb235213a872192d90877d0cd55635b91";

    fn line(flags: &str, slots: &str) -> String {
        format!(
            "e7d1eecce10fd6bb5eb35b9f99a514335d9ba9ca 127.0.0.1:30002@31002,host {PRIMARY} - 0 1 2 connected 0-5\n\
             {ID} 10.0.0.1:6379@16379,name,shard-id=abc,new=1 {flags} - 0 0 1 connected {slots}\n\
             vars currentEpoch 6 lastVoteEpoch 0\n"
        )
    }

    #[test]
    fn the_own_line_is_found_among_others() {
        let own = |role, has_slots| Some((ID.to_owned(), role, has_slots));
        let read = |flags: &str, slots: &str| {
            let own = myself(&line(flags, slots))?;
            let (id, _) = own.line.split_once(' ')?;
            Some((id.to_owned(), own.role, own.has_slots))
        };
        let primary = format!("myself,{PRIMARY}");
        assert_eq!(read(&primary, "0-5460"), own(Role::Primary, true));
        assert_eq!(read(&primary, "7"), own(Role::Primary, true));
        assert_eq!(read(&primary, ""), own(Role::Primary, false));
        assert_eq!(
            read(&format!("myself,{REPLICA},nofailover,future"), ""),
            own(Role::Replica, false)
        );
        // A target of a move holds keys of a slot that is not its own yet.
        assert_eq!(
            read(&primary, &format!("[93-<-{ID}]")),
            own(Role::Primary, true)
        );
        assert_eq!(read(&primary, "shard=x"), own(Role::Primary, false));
    }

    #[test]
    fn what_cannot_be_read_is_nothing() {
        let primary = format!("myself,{PRIMARY}");
        let twice = line(&primary, "1") + &line(&primary, "2");
        let short = format!("{ID} 10.0.0.1:6379 {primary}");
        let both = line(&format!("myself,{PRIMARY},{REPLICA}"), "1");
        let neither = line("myself,leader", "1");
        let no_id = line(&primary, "1").replace(ID, "0123");
        for text in [&twice, &short, &both, &neither, &no_id, "garbage", "\0\0\0"] {
            assert_eq!(myself(text), None, "{text}");
        }
        assert_eq!(myself(&line(PRIMARY, "1")), None, "nobody says `myself`");
    }
}
