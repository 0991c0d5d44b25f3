//! `down`: stop a local cluster.

use shardwright_runtime_local::{Local, Stopped};

use crate::cli::Down;
use crate::exit::{ExitStatus, UsageError};
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
    let local = Local::open_to_change(&dir)?;
    let name = local.state().name.clone();
    if args.purge {
        let question = format!(
            "Remove {name} with all its data, logs and passwords ({})?",
            dir.display()
        );
        if !args.yes && !out.confirm(&question)? {
            out.declined("Nothing was changed. Without a terminal: --yes");
            return Ok(ExitStatus::Failure);
        }
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
