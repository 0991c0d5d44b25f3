//! A server's log: why it ended before it served.

use crate::{ConfigLine, WhyNotStarted};

/// How many messages at the end of a run tell why it ended: of a damaged RDB file four, of a damaged manifest as many.
const LAST_MESSAGES: usize = 6;
/// How a message ends that each engine writes once, as one of its first.
const JUST_STARTED: &str = " just started";
/// How the message of an engine begins that ends itself by a crash, as Valkey 9.1 does for a table that it refuses.
const PANIC: &str = "Guru Meditation: ";

/// Why the process of this number ended before it served, by the log of its server. `None` where it did serve, where
/// its last words are none of those known here, and where the begin of its run is not in `log`: then nothing tells
/// whether it served, nor whether an earlier process of the same number said them.
///
/// `log`: the end of it, with what the process wrote to its standard streams; in it other processes may have spoken before.
/// Known are the words of Redis 7.0 to 8 and Valkey 7.2 to 9.1, in each of Valkey's formats of logs. What the system says
/// is English: servers start with `LC_ALL=C`.
pub fn why_not_started(log: &str, pid: i32) -> Option<WhyNotStarted> {
    if let Some(why) = of_configuration(log) {
        return Some(why);
    }
    let messages: Vec<&str> = log.lines().filter_map(|line| message(line, pid)).collect();
    let begin = messages.iter().rposition(|m| m.ends_with(JUST_STARTED))?;
    let run = messages.get(begin + 1..)?;
    // What lacks memory may load at another time, whatever is said of its file then.
    let no_failure = |m: &&str| m.starts_with("Ready to accept") || m.contains("-> OOM ");
    if run.iter().any(no_failure) {
        return None;
    }
    // What follows a panic reports it.
    let panic = run.iter().position(|m| m.starts_with(PANIC));
    let run = panic.map_or(run, |at| &run[..=at]);
    let last = &run[run.len().saturating_sub(LAST_MESSAGES)..];
    // The first is the cause of the others; but only the last says that an RDB file is the base of a log.
    last.iter()
        .filter_map(|message| of_message(message))
        .reduce(|first, next| match (&first, &next) {
            (WhyNotStarted::CorruptRdb { .. }, WhyNotStarted::CorruptAof { .. }) => next,
            _ => first,
        })
}

/// What this process says in this line: `PID:ROLE TIME LEVEL MESSAGE`, or in Valkey's other format
/// `pid=PID … message="MESSAGE"`.
fn message(line: &str, pid: i32) -> Option<&str> {
    if let Some(rest) = line.strip_prefix(format!("{pid}:").as_str()) {
        let levels = [" # ", " * ", " - ", " . "];
        let at = levels.iter().filter_map(|level| rest.find(level)).min()?;
        return rest.get(at + 3..);
    }
    let rest = line.strip_prefix(format!("pid={pid} ").as_str())?;
    let (_, message) = rest.split_once("message=\"")?;
    Some(message.trim_end_matches('"'))
}

/// Whether any process says this line: only what it writes while it reads its configuration has no number.
fn is_a_message(line: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    line.starts_with("pid=")
        || line
            .split_once(':')
            .is_some_and(|(pid, rest)| number(pid) && rest.get(1..2) == Some(" "))
}

/// What a server writes about its configuration file before it has a log. It counts where it is the end of the log.
fn of_configuration(log: &str) -> Option<WhyNotStarted> {
    let begin = log.rfind("*** FATAL CONFIG FILE ERROR")?;
    let mut lines = log.get(begin..)?.lines().skip(1).map(str::trim);
    if lines.clone().any(is_a_message) {
        return None;
    }
    let first = lines.next()?;
    let number = first
        .strip_prefix("Reading the configuration file, at line ")
        .map(|number| number.parse().ok());
    let (line, said) = match number {
        Some(number) => {
            let text = lines.next()?.trim_start_matches(">>> ");
            let text = text.trim_start_matches('\'').trim_end_matches('\'');
            let line = number.map(|number| ConfigLine {
                number,
                text: text.to_owned(),
            });
            (line, lines.next()?)
        }
        None => (None, first),
    };
    let whole = match &line {
        Some(line) => format!("{}: {said}", line.text),
        None => said.to_owned(),
    };
    let said = said.to_owned();
    of_system(&whole).or(Some(WhyNotStarted::BadConfig { line, said }))
}

fn of_message(message: &str) -> Option<WhyNotStarted> {
    of_log(message)
        .or_else(|| of_snapshot(message))
        .or_else(|| of_listening(message))
        .or_else(|| of_users(message))
        .or_else(|| of_start(message))
        .or_else(|| {
            message
                .contains("corrupted cluster config file")
                .then_some(WhyNotStarted::TableRefused)
        })
}

/// What is wrong with the manifest of an append-only file (`aofLoadManifestFromFile`).
const MANIFEST_FAULTS: [&str; 7] = [
    "Found an empty AOF manifest",
    "The AOF manifest file contains too long line",
    "Invalid AOF manifest file format",
    "File can't be a path, just a filename",
    "Found duplicate base file information",
    "Found a non-monotonic sequence number",
    "Unknown AOF file type",
];

/// Of the append-only file. An error of reading (`Unrecoverable error`, `Error`) is none of the file.
fn of_log(message: &str) -> Option<WhyNotStarted> {
    let corrupt = |file: &str, said: &str| WhyNotStarted::CorruptAof {
        file: Some(file.trim_end_matches([':', '.', ',']).to_owned()),
        said: said.to_owned(),
    };
    if let Some(fault) = MANIFEST_FAULTS.iter().find(|f| message.starts_with(*f)) {
        return Some(WhyNotStarted::CorruptAof {
            file: None,
            said: (*fault).to_owned(),
        });
    }
    if let Some((said, rest)) = message.split_once(" reading the append only file ") {
        let told = [
            "Bad file format",
            "Unexpected end of file",
            "Unknown command",
        ];
        let is_told = told.iter().any(|begin| said.starts_with(begin));
        let file = rest.split_whitespace().next()?;
        return is_told.then(|| corrupt(file, said));
    }
    for said in [
        "Error reading the RDB base file",
        "Error reading the RDB preamble of the AOF file",
    ] {
        if let Some(rest) = message.strip_prefix(said) {
            return Some(corrupt(rest.split_whitespace().next()?, said));
        }
    }
    let rest = message.strip_prefix("Fatal error: can't open the append log file ")?;
    let (file, said) = rest.split_once(" for reading: ")?;
    said.starts_with("No such file")
        .then(|| corrupt(file, said))
}

/// Of an RDB file.
fn of_snapshot(message: &str) -> Option<WhyNotStarted> {
    if let Some(format) = message.strip_prefix("Can't handle RDB format version ") {
        return Some(match format.trim().parse() {
            // Versions begin with 1: this is no number that an engine wrote.
            Ok(0) | Err(_) => WhyNotStarted::CorruptRdb {
                said: message.to_owned(),
            },
            Ok(format) => WhyNotStarted::RdbTooNew { format },
        });
    }
    let said = if message.starts_with("Internal error in RDB reading offset ") {
        message.split_once(" -> ")?.1
    } else {
        let told = [
            "Wrong signature trying to load DB from file",
            "Wrong RDB checksum expected",
            "Short read or OOM loading DB",
            "Unknown type or opcode when loading DB",
        ];
        told.iter()
            .any(|begin| message.starts_with(begin))
            .then_some(message)?
    };
    Some(WhyNotStarted::CorruptRdb {
        said: said.to_owned(),
    })
}

/// Of its ports. The engines add `Failed listening on port …`, which says no reason.
fn of_listening(message: &str) -> Option<WhyNotStarted> {
    let (_, rest) = message.split_once("Could not create server TCP listening socket ")?;
    let (socket, why) = rest.split_once(": ")?;
    let (_, port) = socket.rsplit_once(':')?;
    // glibc and musl say it in other words.
    if why.contains("Address already in use") || why.contains("Address in use") {
        let port = port.parse().ok()?;
        return Some(WhyNotStarted::PortInUse { port });
    }
    of_system(message)
}

/// Of its file of users: `Aborting Redis startup because of ACL errors: …`, since Valkey 8 with its own name.
fn of_users(message: &str) -> Option<WhyNotStarted> {
    let (_, said) = message.split_once(" startup because of ACL errors: ")?;
    let said = said.trim().to_owned();
    of_system(message).or(Some(WhyNotStarted::BadUsers { said }))
}

/// What a server does at its start and never goes on without.
const AT_THE_START: [&str; 10] = [
    "Can't open ",
    "Fatal error: can't open ",
    "Fatal error, can't open ",
    "Fatal error loading the DB: ",
    "Loading the cluster node config from ",
    "Could not open temp cluster config file: ",
    "Failed after writing (",
    "Could not sync tmp cluster config file: ",
    "Could not rename tmp cluster config file: ",
    "Error trying to write the temporary AOF manifest file ",
];

fn of_start(message: &str) -> Option<WhyNotStarted> {
    let begins = AT_THE_START.iter().any(|begin| message.starts_with(begin));
    begins.then(|| of_system(message)).flatten()
}

/// By what the system says of a call that failed.
fn of_system(text: &str) -> Option<WhyNotStarted> {
    let says = |reasons: &[&str]| reasons.iter().any(|reason| text.contains(reason));
    let said = text.to_owned();
    if says(&["No space left on device", "uota exceeded"]) {
        return Some(WhyNotStarted::NoSpace { said });
    }
    says(&[
        "Permission denied",
        "Read-only file system",
        "Operation not permitted",
    ])
    .then_some(WhyNotStarted::NotPermitted { said })
}

#[cfg(test)]
mod tests;
