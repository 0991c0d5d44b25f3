//! `set-timeout`: after how much silence a node is failed, at every node.

use futures_util::future::join_all;
use serde::Serialize;
use shardwright_engine::{Access, Client, Endpoint, Error};
use shardwright_topology::Member;

use crate::cli::{Login, SetTimeout};
use crate::connect::{Purpose, open, person};
use crate::exit::{ExitStatus, Refusal, UsageError};
use crate::printer::Printer;
use crate::target::Target;

const KEY: &str = "cluster-node-timeout";

/// What was done at a node.
#[derive(Debug, Serialize)]
struct Done {
    address: String,
    id: String,
    set: bool,
    /// Whether its configuration file says so too; `null` where nothing was set.
    kept: Option<bool>,
    error: Option<String>,
}

pub(super) async fn run(
    args: SetTimeout,
    login: &Login,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let target: Target = args.target.parse()?;
    if !matches!(target, Target::Member(_)) {
        let text = format!(
            "{} is a declared cluster, and its document is the place: spec.config, {KEY}: \"{}\"",
            args.target, args.ms
        );
        return Err(UsageError(text).into());
    }
    let purpose = if args.dry_run {
        Purpose::Read
    } else {
        Purpose::Change
    };
    let (_keeper, observed) = open(&target, None, login, purpose, out).await?;
    let members = observed.members().values();
    let silent: Vec<String> = members
        .clone()
        .filter(|m| observed.view_of(m.id).is_none())
        .map(|m| m.address.to_string())
        .collect();
    if !silent.is_empty() && !args.force {
        let text = format!(
            "{} did not answer and would keep another time than the rest; start it, or go on without it: --force",
            silent.join(", ")
        );
        return Err(Refusal(text).into());
    }
    let heard: Vec<&Member> = members
        .filter(|m| observed.view_of(m.id).is_some())
        .collect();
    if args.dry_run {
        for member in heard {
            out.would(&format!("{}: set {KEY} {}", member.address, args.ms))?;
        }
        return Ok(ExitStatus::Success);
    }
    let access = person(&target, None, login, out)?;
    let ms = args.ms.to_string();
    let tell = heard.iter().map(|member| set_at(member, &access, &ms));
    out.record.begin();
    let done = join_all(tell).await;
    if done.iter().any(|d| d.set) {
        out.record.changed(true);
    }
    tell_all(&done, &ms, out)?;
    for address in &silent {
        out.warn(&format!("{address} was not told: it did not answer"));
    }
    let all = done.iter().all(|d| d.set) && silent.is_empty();
    Ok(if all {
        ExitStatus::Success
    } else {
        ExitStatus::Failure
    })
}

/// Sets it at a node, and has it kept where the node has a configuration file.
async fn set_at(member: &Member, access: &Access, ms: &str) -> Done {
    let at = Endpoint::from(&member.address);
    let told = async {
        let client = Client::connect(&at, access).await?;
        client.config_set(&[(KEY, ms)]).await?;
        Ok::<Client, Error>(client)
    };
    let (kept, error) = match told.await {
        Err(error) => (None, Some(error.to_string())),
        Ok(client) => match client.config_rewrite().await {
            Ok(()) => (Some(true), None),
            Err(error) => (Some(false), Some(error.to_string())),
        },
    };
    Done {
        address: at.to_string(),
        id: member.id.to_string(),
        set: kept.is_some(),
        kept,
        error,
    }
}

fn tell_all(done: &[Done], ms: &str, out: &mut Printer) -> anyhow::Result<()> {
    if out.is_json() {
        return out.record.put("nodes", &done);
    }
    for d in done {
        let error = d.error.as_deref().unwrap_or("");
        out.text(&match d.kept {
            Some(true) => format!(
                "{}: {KEY} is {ms}, and its configuration file says so",
                d.address
            ),
            Some(false) => format!("{}: {KEY} is {ms} until it ends: {error}", d.address),
            None => format!("{}: not set: {error}", d.address),
        })?;
    }
    Ok(())
}
