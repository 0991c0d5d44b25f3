//! `logs`: what a server of this machine wrote last.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader};

use anyhow::Context;
use shardwright_runtime_local::Local;

use crate::cli::Logs;
use crate::exit::{ExitStatus, UsageError};
use crate::printer::Printer;
use crate::target::{Target, local_dir, not_on_kubernetes};

pub(super) fn run(args: Logs, out: &mut Printer) -> anyhow::Result<ExitStatus> {
    let name = match args.target.parse()? {
        Target::Local(name) => name,
        Target::Kubernetes(key) => return Err(not_on_kubernetes(&key, "logs", "")),
        Target::Member(endpoint) => {
            let text = format!(
                "the log of {endpoint} is where its server writes it; `logs` reads those of local clusters"
            );
            return Err(UsageError(text).into());
        }
    };
    let local = Local::open(&local_dir(name.as_deref(), args.dir)?)?;
    let server = server(&local, &args.node)?;
    let path = local.log_file(&server);
    if args.path {
        out.record.put("path", &path)?;
        out.text(&path.display().to_string())?;
        return Ok(ExitStatus::Success);
    }
    let failed = || format!("cannot read the log {}", path.display());
    let mut last = VecDeque::new();
    for line in BufReader::new(File::open(&path).with_context(failed)?).split(b'\n') {
        last.push_back(line.with_context(failed)?);
        if last.len() > args.lines {
            last.pop_front();
        }
    }
    let last: Vec<_> = last.iter().map(|l| String::from_utf8_lossy(l)).collect();
    if out.is_json() {
        out.record.put("server", &server)?;
        out.record.put("path", &path)?;
        out.record.put("lines", &last)?;
        return Ok(ExitStatus::Success);
    }
    for line in last {
        out.text(&line)?;
    }
    Ok(ExitStatus::Success)
}

/// The server that is meant: by its name, its address, or the id recorded at it.
fn server(local: &Local, text: &str) -> anyhow::Result<String> {
    let servers = &local.state().servers;
    let mut found = servers.iter().filter(|(name, note)| {
        let id = note.node.as_ref();
        *name == text
            || local.address_of(note).to_string() == text
            || id.is_some_and(|id| text.len() >= 4 && id.starts_with(text))
    });
    match (found.next(), found.next()) {
        (Some((name, _)), None) => Ok(name.clone()),
        (Some(_), Some(_)) => {
            let text = format!("{text:?} is the beginning of several node ids; write more of it");
            Err(UsageError(text).into())
        }
        (None, _) => {
            let names: Vec<_> = servers.keys().map(String::as_str).collect();
            let names = names.join(", ");
            Err(UsageError(format!("there is no server {text:?}; there are: {names}")).into())
        }
    }
}
