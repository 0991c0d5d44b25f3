//! `down`: stop a local cluster.

use shardwright_runtime_local::{Local, Stopped};

use crate::cli::Down;
use crate::exit::{ExitStatus, UsageError};
use crate::handover::{Request, hand_over, is_held};
use crate::printer::Printer;
use crate::target::{Target, local_dir, not_on_kubernetes};

pub(super) async fn run(args: Down, out: &mut Printer) -> anyhow::Result<ExitStatus> {
    let name = match args.target.target.parse()? {
        Target::Local(name) => name,
        Target::Kubernetes(key) => return Err(not_on_kubernetes(&key, "delete", "")),
        Target::Member(_) => {
            let text = "only a cluster of this machine can be stopped: local[:NAME]";
            return Err(UsageError(text.to_owned()).into());
        }
    };
    let dir = local_dir(name.as_deref(), args.target.dir)?;
    if args.dry_run {
        return dry_run(&Local::open(&dir)?, args.purge, out);
    }
    let mut yes = args.yes;
    if is_held(&dir).await? {
        if args.purge && !agreed(&Local::open(&dir)?, yes, out)? {
            return Ok(ExitStatus::Failure);
        }
        yes = true;
        let request = Request::Down { purge: args.purge };
        if let Some(status) = hand_over(&dir, request, out).await? {
            return Ok(status);
        }
    }
    let local = Local::open_to_change(&dir)?;
    if args.purge && !agreed(&local, yes, out)? {
        return Ok(ExitStatus::Failure);
    }
    stop(&local, args.purge, out).await
}

/// Whether a person agrees that all data goes.
fn agreed(local: &Local, yes: bool, out: &mut Printer) -> anyhow::Result<bool> {
    let question = format!(
        "Remove {} with all its data, logs and passwords ({})?",
        local.state().name,
        local.dir().display()
    );
    if yes || out.confirm(&question)? {
        return Ok(true);
    }
    out.declined("Nothing was changed. Without a terminal: --yes");
    Ok(false)
}

/// Stops all servers, and removes the cluster where a person agreed to that.
pub(super) async fn stop(
    local: &Local,
    purge: bool,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let (name, dir) = (local.state().name.clone(), local.dir().to_owned());
    if purge {
        out.record.begin();
        let count = local.purge().await?;
        out.record.changed(true);
        out.done(&format!(
            "[OK] {name}: {count} server(s) ended, and {} removed",
            dir.display()
        ));
        return Ok(ExitStatus::Success);
    }
    out.record.begin();
    let tell = |stopped: &Stopped| {
        match &stopped.unsaved {
        None => out.say(&format!("stopped {}", stopped.server)),
        Some(error) => out.warn(&format!(
            "{} was ended by a signal, and it is not known whether it saved its data; see {}: {error}",
            stopped.server,
            local.log_file(&stopped.server).display()
        )),
    }
    };
    let stopped = local.stop(tell).await?;
    let count = stopped.len();
    out.record.changed(count > 0);
    let unsaved = stopped.iter().filter(|s| s.unsaved.is_some()).count();
    let data = match unsaved {
        0 => "data saved".to_owned(),
        some => format!("data of all but {some} saved"),
    };
    out.done(&format!(
        "[OK] {name}: {count} server(s) stopped, {data} in {}",
        dir.display()
    ));
    Ok(ExitStatus::Success)
}

/// What would be stopped, and what would be left.
fn dry_run(local: &Local, purge: bool, out: &mut Printer) -> anyhow::Result<ExitStatus> {
    let (name, dir) = (&local.state().name, local.dir().display());
    let mut running = 0;
    for server in local.state().servers.keys() {
        if local.process_of(server)?.is_some() {
            running += 1;
            let how = if purge { "end" } else { "stop" };
            out.would(&format!("{how} {server}"))?;
        }
    }
    if purge {
        out.would(&format!(
            "remove {dir}, with all data, logs and passwords of {name}"
        ))?;
    }
    out.say(&format!(
        "{running} server(s) of {name} run; nothing was changed"
    ));
    Ok(ExitStatus::Success)
}
