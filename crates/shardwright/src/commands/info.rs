//! `info`: keys, slots and replicas of each primary, in a line each.

use serde::Serialize;
use shardwright_topology::{Observed, Role};

use crate::cli::{Login, TargetArgs};
use crate::connect::{Purpose, open};
use crate::exit::ExitStatus;
use crate::printer::Printer;
use crate::target::Target;
use crate::verb_result::Ending;

/// A primary.
#[derive(Debug, Serialize)]
struct Primary {
    address: String,
    id: String,
    /// `null` where it was not heard.
    keys: Option<u64>,
    slots: u16,
    replicas: usize,
}

pub(super) async fn run(
    args: TargetArgs,
    login: &Login,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let target: Target = args.target.parse()?;
    let (_, observed) = open(&target, args.dir, login, Purpose::Read, out).await?;
    let primaries = primaries(&observed);
    let keys: Option<u64> = primaries.iter().map(|p| p.keys).sum();
    if out.is_json() {
        out.record.put("primaries", &primaries)?;
        out.record.put("keys", &keys)?;
    } else {
        for p in &primaries {
            let keys = told(p.keys);
            out.text(&format!(
                "{} ({}...) -> {keys} keys | {} slots | {} replicas",
                p.address,
                p.id.chars().take(8).collect::<String>(),
                p.slots,
                p.replicas
            ))?;
        }
        let slots: u32 = primaries.iter().map(|p| u32::from(p.slots)).sum();
        let sum = told(keys);
        out.text(&format!(
            "{sum} keys in {} primaries, {slots} of {} slots",
            primaries.len(),
            shardwright_topology::SLOT_COUNT
        ))?;
    }
    let whole = observed.uncovered().is_empty() && keys.is_some() && !primaries.is_empty();
    Ok(if whole {
        ExitStatus::Success
    } else {
        out.record.ending(Ending::Unhealthy);
        ExitStatus::Failure
    })
}

fn told(keys: Option<u64>) -> String {
    keys.map_or_else(|| "unknown".to_owned(), |n| n.to_string())
}

fn primaries(o: &Observed) -> Vec<Primary> {
    let members = o.members().values();
    let mut primaries: Vec<Primary> = members
        .clone()
        .filter(|m| m.role == Role::Primary)
        .map(|m| Primary {
            address: m.address.to_string(),
            id: m.id.to_string(),
            keys: o.view_of(m.id).map(|v| v.server.keys),
            slots: m.slots.count(),
            replicas: members.clone().filter(|r| r.primary == Some(m.id)).count(),
        })
        .collect();
    primaries.sort_by(|a, b| a.address.cmp(&b.address));
    primaries
}
