//! `pause` and `resume`: whether slots move.

use shardwright_runtime_local::{StateLock, pause_moves, resume_moves};

use crate::cli::{Login, Pause};
use crate::connect::{Purpose, open};
use crate::exit::{ExitStatus, UsageError};
use crate::kubernetes;
use crate::printer::Printer;
use crate::target::{Called, Target, local_dir};

pub(super) async fn run(
    args: Pause,
    pause: bool,
    login: &Login,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let target: Target = args.target.target.parse()?;
    let called = Called::of(
        &target,
        &args.target.target,
        args.target.dir.as_deref(),
        login,
    );
    let member = matches!(target, Target::Member(_));
    if args.dry_run && !member {
        let what = if pause {
            "give out no further slots of"
        } else {
            "let slots move again in"
        };
        out.would(&format!("{what} {}", args.target.target))?;
        return say_left(&target, args.target.dir, login, out).await;
    }
    match &target {
        Target::Member(_) => {
            let text = "nothing but the running verb moves the slots of a cluster that others run: Ctrl-C ends it after \
                        the burst of keys that is under way, and the same line again goes on";
            return Err(UsageError(text.to_owned()).into());
        }
        Target::Kubernetes(key) => {
            out.record.begin();
            let new = kubernetes::pause(key, login, pause).await?;
            tell(pause, new, &called, out);
        }
        Target::Local(name) => {
            let dir = local_dir(name.as_deref(), args.target.dir.clone())?;
            let new = if pause {
                pause_moves(&dir)?
            } else {
                resume_moves(&dir)?
            };
            tell(pause, new, &called, out);
            let left = slots_left(&target, args.target.dir, login, out).await?;
            match left {
                None => out.say("no slots have to move"),
                Some(left) => {
                    out.say(&format!("slots left to move: {left}"));
                    // Whoever has the pen goes on by itself.
                    if !pause && StateLock::take(&dir).is_ok() {
                        out.say("nobody works on it now: `shardwright up` goes on");
                    }
                }
            }
        }
    }
    Ok(ExitStatus::Success)
}

fn tell(pause: bool, new: bool, called: &Called, out: &mut Printer) {
    let resume = called.command("resume");
    out.record.changed(new);
    out.done(&match (pause, new) {
        (true, true) => format!(
            "[OK] no further slots are given out, and those under way are finished; to let them go on: {resume}"
        ),
        (true, false) => format!("[OK] it was paused already; to let slots move again: {resume}"),
        (false, true) => "[OK] slots may move again".to_owned(),
        (false, false) => "[OK] it was not paused".to_owned(),
    });
}

/// How many slots would move, or stay.
async fn say_left(
    target: &Target,
    dir: Option<std::path::PathBuf>,
    login: &Login,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    match slots_left(target, dir, login, out).await? {
        Some(left) => out.say(&format!("slots left to move: {left}")),
        None => out.say("no slots have to move"),
    }
    Ok(ExitStatus::Success)
}

async fn slots_left(
    target: &Target,
    dir: Option<std::path::PathBuf>,
    login: &Login,
    out: &mut Printer,
) -> anyhow::Result<Option<u32>> {
    let (mut keeper, _) = open(target, dir, login, Purpose::Read, out).await?;
    let report = keeper.look().await?;
    Ok(report.plan.moves().map(|(left, _)| left))
}
