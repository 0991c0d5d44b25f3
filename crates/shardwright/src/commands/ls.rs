//! `ls`: the clusters of this machine.

use serde::Serialize;
use shardwright_runtime_local::{Local, clusters, root};

use crate::exit::ExitStatus;
use crate::printer::Printer;
use crate::table::table;

/// One cluster, as it is listed.
#[derive(Serialize)]
struct Listed {
    name: String,
    /// Why it can't be read; the other fields are `null` then.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    shards: Option<u32>,
    replicas_per_shard: Option<u32>,
    servers_running: Option<usize>,
    servers: Option<usize>,
    /// The first client port.
    port: Option<u16>,
    /// The server's program.
    engine: Option<String>,
    dir: String,
}

pub(super) fn run(out: &mut Printer) -> anyhow::Result<ExitStatus> {
    let root = root()?;
    let names = clusters(&root)?;
    let all: Vec<Listed> = names.into_iter().map(|n| listed(&root, n)).collect();
    if out.is_json() {
        out.record.put("clusters", &all)?;
        return Ok(ExitStatus::Success);
    }
    if all.is_empty() {
        out.say(&format!(
            "no local cluster in {}; make one: shardwright up",
            root.display()
        ));
        return Ok(ExitStatus::Success);
    }
    let head = ["NAME", "SHARDS", "REPLICAS", "RUNNING", "PORT", "ENGINE"];
    let text = |value: Option<String>| value.unwrap_or_else(|| "?".to_owned());
    let row = |c: &Listed| {
        let running = c.servers_running.zip(c.servers);
        vec![
            c.name.clone(),
            text(c.shards.map(|n| n.to_string())),
            text(c.replicas_per_shard.map(|n| n.to_string())),
            text(running.map(|(n, of)| format!("{n}/{of}"))),
            text(c.port.map(|n| n.to_string())),
            text(c.engine.clone()),
        ]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    out.text(&table(&head, &rows, head.len(), out.room()))?;
    for c in &all {
        if let Some(error) = &c.error {
            out.warn(&format!("{}: {error}", c.name));
        }
    }
    Ok(ExitStatus::Success)
}

fn listed(root: &std::path::Path, name: String) -> Listed {
    let dir = root.join(&name);
    let read = Local::open(&dir).and_then(|local| {
        let servers = &local.state().servers;
        let mut running = 0;
        for server in servers.keys() {
            running += usize::from(local.process_of(server)?.is_some());
        }
        Ok((local, running))
    });
    let dir = dir.display().to_string();
    match read {
        Ok((local, running)) => Listed {
            name,
            error: None,
            shards: Some(local.cluster().shards()),
            replicas_per_shard: Some(local.cluster().replicas_per_shard()),
            servers_running: Some(running),
            servers: Some(local.state().servers.len()),
            port: local.state().servers.values().map(|s| s.port).min(),
            engine: Some(local.state().engine.display().to_string()),
            dir,
        },
        Err(error) => Listed {
            name,
            error: Some(error.to_string()),
            shards: None,
            replicas_per_shard: None,
            servers_running: None,
            servers: None,
            port: None,
            engine: None,
            dir,
        },
    }
}
