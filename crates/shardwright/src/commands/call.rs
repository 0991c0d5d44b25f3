//! `call`: one command at each node.

use futures_util::future::join_all;
use serde::Serialize;
use serde_json::Value;
use shardwright_engine::{Client, Endpoint, Error};
use shardwright_topology::wire::Reply;
use shardwright_topology::{Member, Role};

use crate::cli::{Call, Login};
use crate::connect::{Purpose, open, person};
use crate::exit::{ExitStatus, UsageError};
use crate::printer::Printer;
use crate::target::Target;

/// Commands that wait for something, or after which the connection streams or is another one.
const REFUSED: &[&str] = &[
    "SUBSCRIBE",
    "PSUBSCRIBE",
    "SSUBSCRIBE",
    "UNSUBSCRIBE",
    "PUNSUBSCRIBE",
    "SUNSUBSCRIBE",
    "MONITOR",
    "SYNC",
    "PSYNC",
    "REPLCONF",
    "BLPOP",
    "BRPOP",
    "BLMOVE",
    "BRPOPLPUSH",
    "BLMPOP",
    "BZPOPMIN",
    "BZPOPMAX",
    "BZMPOP",
    "WAIT",
    "WAITAOF",
    "MULTI",
    "EXEC",
    "QUIT",
    "RESET",
    "HELLO",
    "AUTH",
    "ASKING",
];

/// What a node answered.
#[derive(Debug, Serialize)]
struct Answer {
    address: String,
    id: String,
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip)]
    text: String,
}

pub(super) async fn run(
    args: Call,
    login: &Login,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let target: Target = args.target.parse()?;
    may_be_called(&args.command)?;
    if let Target::Kubernetes(key) = &target {
        let text = format!(
            "nodes on Kubernetes are asked in their pods: kubectl exec -n {} {}-0 -- redis-cli ...",
            key.namespace, key.name
        );
        return Err(UsageError(text).into());
    }
    let access = person(&target, args.dir.clone(), login, out)?;
    let (_, observed) = open(&target, args.dir, login, Purpose::Read, out).await?;
    let wanted = |m: &&Member| match m.role {
        Role::Primary => !args.replicas,
        Role::Replica => !args.primaries,
    };
    let mut members: Vec<&Member> = observed.members().values().filter(wanted).collect();
    members.sort_by_key(|m| m.address.to_string());
    if members.is_empty() {
        return Err(UsageError("the cluster has no such node".to_owned()).into());
    }
    let words: Vec<Vec<u8>> = args
        .command
        .iter()
        .map(|w| w.clone().into_bytes())
        .collect();
    let secrets = Secrets::of(&args.command);
    // What it does is the command's own matter: it is not known whether it changes anything.
    out.record.begin();
    let ask = members.iter().map(|member| async {
        let at = Endpoint::from(&member.address);
        let answered = async { Client::connect(&at, &access).await?.call(&words).await };
        answer(member, answered.await, secrets)
    });
    let answers = join_all(ask).await;
    if out.is_json() {
        out.record.put("answers", &answers)?;
    } else {
        for a in &answers {
            let more = if a.text.contains('\n') { "\n" } else { " " };
            out.text(&format!("{} ({}):{more}{}", a.address, a.role, a.text))?;
        }
    }
    let failed = answers.iter().filter(|a| a.error.is_some()).count();
    if failed == 0 {
        return Ok(ExitStatus::Success);
    }
    out.say(&format!(
        "{failed} of {} nodes did not do it",
        answers.len()
    ));
    Ok(ExitStatus::Failure)
}

/// Refuses what waits, streams, or makes the connection another one.
fn may_be_called(words: &[String]) -> Result<(), UsageError> {
    let upper = |at: usize| words.get(at).map(|w| w.to_uppercase());
    let name = upper(0).ok_or_else(|| UsageError("no command was given".to_owned()))?;
    let blocks = name.starts_with("XREAD") && words.iter().any(|w| w.eq_ignore_ascii_case("block"));
    let reply = name == "CLIENT" && upper(1).is_some_and(|sub| sub == "REPLY");
    if name.trim().is_empty() || blocks || reply || REFUSED.contains(&name.as_str()) {
        return Err(UsageError(format!(
            "{name:?} is not called at every node: it waits, streams, or changes the connection; use redis-cli"
        )));
    }
    Ok(())
}

/// What of a reply is not shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Secrets {
    None,
    /// Values of settings that are passwords.
    Settings,
    /// Hashes of passwords.
    Hashes,
}

impl Secrets {
    fn of(words: &[String]) -> Self {
        let is =
            |at: usize, word: &str| words.get(at).is_some_and(|w| w.eq_ignore_ascii_case(word));
        if is(0, "config") {
            Self::Settings
        } else if is(0, "acl") && !is(1, "genpass") {
            Self::Hashes
        } else {
            Self::None
        }
    }

    /// Puts a mark in the place of each secret.
    fn hide(self, reply: &mut Reply) {
        match (self, reply) {
            (Self::None, _)
            | (_, Reply::Nil | Reply::Int(_))
            | (Self::Settings, Reply::Text(_)) => {}
            (Self::Settings, Reply::List(list)) => {
                for at in (1..list.len()).step_by(2) {
                    let (names, values) = list.split_at_mut(at);
                    hide_value(&names[at - 1], &mut values[0]);
                }
            }
            (Self::Settings, Reply::Map(pairs)) => {
                for (name, value) in pairs {
                    hide_value(name, value);
                }
            }
            (Self::Hashes, Reply::Text(text)) => hide_hashes(text),
            (Self::Hashes, Reply::List(list)) => list.iter_mut().for_each(|r| self.hide(r)),
            (Self::Hashes, Reply::Map(pairs)) => {
                for (_, value) in pairs {
                    self.hide(value);
                }
            }
        }
    }
}

const HIDDEN: &[u8] = b"(secret)";

fn hide_value(name: &Reply, value: &mut Reply) {
    let name = name.text().map(<[u8]>::to_ascii_lowercase);
    let secret = name.is_some_and(|n| n.ends_with(b"pass") || n.ends_with(b"auth"));
    if let (true, Reply::Text(text)) = (secret, value)
        && !text.is_empty()
    {
        *text = HIDDEN.to_vec();
    }
}

/// A SHA-256 is 64 hexadecimal digits.
fn hide_hashes(text: &mut Vec<u8>) {
    let words = text.split(|b| *b == b' ').map(|word| {
        let bare = word.strip_prefix(b"#").unwrap_or(word);
        let hash = bare.len() == 64 && bare.iter().all(u8::is_ascii_hexdigit);
        if hash { HIDDEN } else { word }
    });
    let shown = words.collect::<Vec<_>>().join(&b' ');
    *text = shown;
}

fn answer(member: &Member, answered: Result<Reply, Error>, secrets: Secrets) -> Answer {
    let role = match member.role {
        Role::Primary => "primary",
        Role::Replica => "replica",
    };
    let (reply, error, text) = match answered {
        Ok(mut reply) => {
            secrets.hide(&mut reply);
            let text = shown(&reply, "");
            (Some(json(&reply)), None, text)
        }
        Err(error) => (None, Some(error.to_string()), format!("error: {error}")),
    };
    Answer {
        address: member.address.to_string(),
        id: member.id.to_string(),
        role,
        reply,
        error,
        text,
    }
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).trim_end().to_owned()
}

/// As a person reads it.
fn shown(reply: &Reply, indent: &str) -> String {
    let deeper = format!("{indent}   ");
    match reply {
        Reply::Nil => "(nil)".to_owned(),
        Reply::Int(number) => number.to_string(),
        Reply::Text(text) => lossy(text),
        Reply::List(list) if list.is_empty() => "(empty)".to_owned(),
        Reply::List(list) => {
            let lines = list.iter().enumerate();
            let lines = lines.map(|(i, r)| format!("{indent}{}) {}", i + 1, shown(r, &deeper)));
            lines.collect::<Vec<_>>().join("\n")
        }
        Reply::Map(pairs) => {
            let lines = pairs.iter().map(|(name, value)| {
                format!("{indent}{}: {}", shown(name, ""), shown(value, &deeper))
            });
            lines.collect::<Vec<_>>().join("\n")
        }
    }
}

fn json(reply: &Reply) -> Value {
    match reply {
        Reply::Nil => Value::Null,
        Reply::Int(number) => (*number).into(),
        Reply::Text(text) => lossy(text).into(),
        Reply::List(list) => list.iter().map(json).collect(),
        Reply::Map(pairs) => {
            let pair = |(name, value): &(Reply, Reply)| (shown(name, ""), json(value));
            Value::Object(pairs.iter().map(pair).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn what_waits_or_streams_is_refused() {
        for wrong in [
            "subscribe a",
            "MONITOR",
            "blpop a 0",
            "xread block 0 streams a 0",
            "client reply off",
            "",
            "wait 1 0",
        ] {
            assert!(may_be_called(&words(wrong)).is_err(), "{wrong}");
        }
        for right in [
            "dbsize",
            "xread streams a 0",
            "client list",
            "cluster nodes",
        ] {
            assert!(may_be_called(&words(right)).is_ok(), "{right}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let text = |text: &str| Reply::Text(text.as_bytes().to_vec());
        let mut settings = Reply::List(vec![
            text("requirepass"),
            text("hunter2"),
            text("port"),
            text("1"),
        ]);
        Secrets::of(&words("CONFIG get *")).hide(&mut settings);
        assert_eq!(
            shown(&settings, ""),
            "1) requirepass\n2) (secret)\n3) port\n4) 1"
        );
        let mut user = Reply::List(vec![text(&format!("user a on #{} ~*", "0a".repeat(32)))]);
        Secrets::of(&words("acl list")).hide(&mut user);
        assert_eq!(shown(&user, ""), "1) user a on (secret) ~*");
    }
}
