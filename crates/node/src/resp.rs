//! As much of RESP as `PING`, `AUTH`, `ROLE` and `INFO` need (Redis documentation, "RESP specification", version 2).

use crate::wire_words::{PRIMARY, REPLICA};

/// Longer answers are cut off: what is asked here is answered in far less, with hundreds of replicas too.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Deeper nesting is no answer to what is asked here.
const DEPTH_MAX: u8 = 4;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A simple or bulk string.
    Text(String),
    /// An error, such as `NOAUTH …`.
    Error(String),
    /// A number.
    Int(i64),
    /// No value.
    Null,
    /// A list.
    List(Vec<Value>),
}

/// How far the bytes go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A whole answer.
    Whole(Value),
    /// More bytes are needed.
    Partial,
    /// This is no RESP.
    Foreign,
}

/// A command as an array of bulk strings.
#[must_use]
pub fn command(words: &[&str]) -> Vec<u8> {
    let bulk = |word: &&str| format!("${}\r\n{word}\r\n", word.len());
    let bulks: String = words.iter().map(bulk).collect();
    format!("*{}\r\n{bulks}", words.len()).into_bytes()
}

/// Reads one answer.
#[must_use]
pub fn parse(bytes: &[u8]) -> Parsed {
    let mut rest = bytes;
    match value(&mut rest, DEPTH_MAX) {
        Ok(value) => Parsed::Whole(value),
        Err(Stop::Partial) if bytes.len() < ANSWER_BYTES_MAX => Parsed::Partial,
        Err(Stop::Partial | Stop::Foreign) => Parsed::Foreign,
    }
}

enum Stop {
    Partial,
    Foreign,
}

fn value(rest: &mut &[u8], depth: u8) -> Result<Value, Stop> {
    let kind = *rest.first().ok_or(Stop::Partial)?;
    if !b"+-:$*".contains(&kind) || depth == 0 {
        return Err(Stop::Foreign);
    }
    let end = rest
        .windows(2)
        .position(|pair| pair == b"\r\n")
        .ok_or(Stop::Partial)?;
    let line = String::from_utf8_lossy(&rest[1..end]).into_owned();
    *rest = &rest[end + 2..];
    let number = || line.parse::<i64>().map_err(|_| Stop::Foreign);
    match kind {
        b'+' => Ok(Value::Text(line)),
        b'-' => Ok(Value::Error(line)),
        b':' => number().map(Value::Int),
        b'$' => match usize::try_from(number()?) {
            Err(_) => Ok(Value::Null),
            Ok(len) => {
                let text = rest.get(..len).ok_or(Stop::Partial)?;
                let text = String::from_utf8_lossy(text).into_owned();
                *rest = rest.get(len + 2..).ok_or(Stop::Partial)?;
                Ok(Value::Text(text))
            }
        },
        _ => match usize::try_from(number()?) {
            Err(_) => Ok(Value::Null),
            Ok(len) => (0..len)
                .map(|_| value(rest, depth - 1))
                .collect::<Result<_, _>>()
                .map(Value::List),
        },
    }
}

/// What a server says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A primary with that many replicas connected and in sync.
    Primary {
        /// How many.
        replicas: usize,
    },
    /// A replica.
    Replica {
        /// Its link to its primary.
        link: Link,
    },
}

/// What a replica says of the link to its primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// It is up: the replica has its copy, and follows.
    Up,
    /// The replica is taking a whole copy.
    Copying,
    /// It is down, or being set up.
    Down,
}

/// Reads the answer to `ROLE`; `None` for anything else.
#[must_use]
pub fn role(answer: &Value) -> Option<Role> {
    let Value::List(fields) = answer else {
        return None;
    };
    match fields.as_slice() {
        [Value::Text(name), Value::Int(_), Value::List(replicas), ..] if name == PRIMARY => {
            let replicas = replicas.len();
            Some(Role::Primary { replicas })
        }
        [Value::Text(name), rest @ ..] if name == REPLICA => {
            let link = match rest {
                [_, _, Value::Text(state), ..] if state == "connected" => Link::Up,
                [_, _, Value::Text(state), ..] if state == "sync" => Link::Copying,
                _ => Link::Down,
            };
            Some(Role::Replica { link })
        }
        _ => None,
    }
}

/// The replicas of a primary by what they have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copies {
    /// How many have their copy and follow.
    pub whole: usize,
    /// How many are still to have it: their primary sends it, or they have acknowledged nothing of what their primary has
    /// written, for they are loading it.
    pub under_way: usize,
}

/// Reads the answer of a primary to `INFO replication`.
#[must_use]
pub fn copies(info: &str) -> Copies {
    let offset = info
        .lines()
        .find_map(|line| line.strip_prefix(PRIMARY)?.strip_prefix("_repl_offset:"));
    let has_written = offset.is_some_and(|offset| offset.trim() != "0");
    let mut copies = Copies {
        whole: 0,
        under_way: 0,
    };
    for line in info.lines() {
        let Some(fields) = replica_fields(line) else {
            continue;
        };
        let silent = has_written && field(fields, "offset") == Some("0");
        if field(fields, "state") == Some("online") && !silent {
            copies.whole += 1;
        } else {
            copies.under_way += 1;
        }
    }
    copies
}

/// What follows the name of a replica (the wire word and its number) in a line of `INFO replication`.
fn replica_fields(line: &str) -> Option<&str> {
    let (number, fields) = line.strip_prefix(REPLICA)?.split_once(':')?;
    let numbered = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    numbered.then(|| fields.trim_end())
}

/// The value of `name` in `name=value,name=value`.
fn field<'a>(fields: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = fields.split(',').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_an_array_of_bulk_strings() {
        assert_eq!(
            command(&["AUTH", "me", "a b"]),
            b"*3\r\n$4\r\nAUTH\r\n$2\r\nme\r\n$3\r\na b\r\n"
        );
    }

    #[test]
    fn every_way_to_answer_a_ping_is_an_answer() {
        for (bytes, value) in [
            ("+PONG\r\n", Value::Text("PONG".into())),
            ("-NOAUTH log in", Value::Error("NOAUTH log in".into())),
            ("-LOADING wait", Value::Error("LOADING wait".into())),
            ("-BUSY script", Value::Error("BUSY script".into())),
            ("$4\r\nPONG", Value::Text("PONG".into())),
            (":1", Value::Int(1)),
            ("$-1", Value::Null),
            ("*-1", Value::Null),
        ] {
            let bytes = format!("{}\r\n", bytes.trim_end());
            assert_eq!(parse(bytes.as_bytes()), Parsed::Whole(value), "{bytes:?}");
        }
    }

    #[test]
    fn half_an_answer_and_another_protocol_are_told_apart() {
        let whole = b"*3\r\n$2\r\nab\r\n:5\r\n*0\r\n";
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end]), Parsed::Partial, "{end}");
        }
        assert!(matches!(parse(whole), Parsed::Whole(_)));
        for foreign in ["HTTP/1.1 400\r\n", "\u{15}\u{3}", ":x\r\n", "$x\r\n"] {
            assert_eq!(parse(foreign.as_bytes()), Parsed::Foreign, "{foreign:?}");
        }
        let deep = "*1\r\n".repeat(9);
        assert_eq!(parse(deep.as_bytes()), Parsed::Foreign);
        let endless = [b'+'].repeat(ANSWER_BYTES_MAX);
        assert_eq!(parse(&endless), Parsed::Foreign);
        assert_eq!(parse(b"*9223372036854775807\r\n"), Parsed::Partial);
    }

    #[test]
    fn the_role_is_read_from_its_answer() {
        let read = |text: String| match parse(text.as_bytes()) {
            Parsed::Whole(value) => role(&value),
            Parsed::Partial | Parsed::Foreign => panic!("{text:?}"),
        };
        let bulk = |word: &str| format!("${}\r\n{word}\r\n", word.len());
        let alone = format!("*3\r\n{}:0\r\n*0\r\n", bulk(PRIMARY));
        assert_eq!(read(alone), Some(Role::Primary { replicas: 0 }));
        let one = "*3\r\n$9\r\n127.0.0.1\r\n$4\r\n6380\r\n$3\r\n100\r\n";
        let two = format!("*3\r\n{}:0\r\n*2\r\n{one}{one}", bulk(PRIMARY));
        assert_eq!(read(two), Some(Role::Primary { replicas: 2 }));
        for (state, link) in [
            ("connected", Link::Up),
            ("sync", Link::Copying),
            ("connect", Link::Down),
            ("handshake", Link::Down),
        ] {
            let replica = format!(
                "*5\r\n{}$1\r\nh\r\n:6379\r\n{}:7\r\n",
                bulk(REPLICA),
                bulk(state)
            );
            assert_eq!(read(replica), Some(Role::Replica { link }), "{state}");
        }
        assert_eq!(read("-NOPERM no\r\n".into()), None);
        assert_eq!(read("*1\r\n$8\r\nsentinel\r\n".into()), None);
        assert_eq!(read("+PONG\r\n".into()), None);
    }

    #[test]
    fn replicas_with_and_without_their_copy_are_counted() {
        let counted = |replicas: &[&str], offset: u32| {
            let mut lines = vec![format!("connected_{REPLICA}s:{}", replicas.len())];
            let replicas = replicas.iter().enumerate();
            lines.extend(
                replicas
                    .map(|(n, fields)| format!("{REPLICA}{n}:ip=10.0.0.{n},port=6379,{fields}")),
            );
            lines.push(format!("{PRIMARY}_repl_offset:{offset}"));
            lines.push("second_repl_offset:-1".to_owned());
            let copies = copies(&lines.join("\r\n"));
            (copies.whole, copies.under_way)
        };
        assert_eq!(counted(&[], 0), (0, 0));
        assert_eq!(counted(&["state=online,offset=14,lag=0"], 14), (1, 0));
        let silent = ["state=online,offset=0,lag=3"];
        assert_eq!(counted(&silent, 0), (1, 0), "nothing was written");
        assert_eq!(counted(&silent, 14), (0, 1), "it loads");
        let some = [
            "state=wait_bgsave,offset=0,lag=0",
            "state=send_bulk,offset=0,lag=0,type=replica",
            "state=online,offset=9,lag=1",
        ];
        assert_eq!(counted(&some, 14), (1, 2));
        let none = (0, 0);
        for text in [format!("{REPLICA}_priority:100"), "no answer".to_owned()] {
            let copies = copies(&text);
            assert_eq!((copies.whole, copies.under_way), none, "{text}");
        }
    }
}
