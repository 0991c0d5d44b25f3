//! What the changing verbs share: show the plan, or carry it out and tell how it ended.

use std::time::Duration;

use shardwright_planner::{Consent, Desired};
use shardwright_runtime::Keeper;

use crate::connect::AnyKeeper;
use crate::exit::ExitStatus;
use crate::printer::Printer;
use crate::progress::Progress;
use crate::report;

/// The same wish, with the consent of a person.
pub(super) fn consenting(desired: &Desired, lose_data: bool) -> Desired {
    Desired {
        consent: Consent { lose_data },
        ..desired.clone()
    }
}

/// Shows what would be done now.
pub(super) async fn dry_run(
    keeper: &mut AnyKeeper,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let report = keeper.look().await?;
    report::print_plan(&report.plan, &report.observed, out)?;
    Ok(ExitStatus::Success)
}

/// Carries out what is to be done, until it is.
pub(super) async fn carry_out<R: shardwright_runtime::Runtime>(
    keeper: &mut Keeper<R>,
    timeout_s: u64,
    settled: &str,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let mut progress = Progress::new();
    let end = keeper
        .settle(Duration::from_secs(timeout_s), |r| {
            report::tell(&mut progress, r);
        })
        .await;
    progress.done();
    report::end(end?, settled, out)
}
