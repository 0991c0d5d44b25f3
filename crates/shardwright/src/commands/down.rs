//! `down`: stop a local cluster.

use shardwright_runtime_local::Local;

use crate::cli::Down;
use crate::exit::{ExitStatus, UsageError};
use crate::printer::Printer;
use crate::target::{Target, local_dir};

pub(super) async fn run(args: Down, out: &mut Printer) -> anyhow::Result<ExitStatus> {
    let Target::Local(name) = args.target.target.parse()? else {
        return Err(UsageError(
            "only a cluster of this machine can be stopped: local[:NAME]".to_owned(),
        )
        .into());
    };
    let dir = local_dir(name.as_deref(), args.target.dir)?;
    let local = Local::open_to_change(&dir)?;
    let name = local.state().name.clone();
    if args.purge {
        let count = local.purge().await?;
        out.say(&format!(
            "[OK] {name}: {count} server(s) ended, and {} removed",
            dir.display()
        ));
        return Ok(ExitStatus::Success);
    }
    let count = local
        .stop(|server| out.say(&format!("stopped {server}")))
        .await?;
    out.say(&format!(
        "[OK] {name}: {count} server(s) stopped, data saved in {}",
        dir.display()
    ));
    Ok(ExitStatus::Success)
}
