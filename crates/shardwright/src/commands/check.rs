//! `check`: what is wrong, and what mends it.

use shardwright_planner::{Consent, Desired, Standing, Waiting, safety, standings};
use shardwright_topology::{Disk, Observed};

use super::change::{fatal, steady};
use crate::cli::{Login, TargetArgs};
use crate::connect::{Purpose, open};
use crate::exit::ExitStatus;
use crate::hint::hint;
use crate::kubernetes;
use crate::printer::Printer;
use crate::report::{named, print_problems};
use crate::status::ClusterStatus;
use crate::target::{Called, Target};
use crate::verb_result::{Ending, Wait};

pub(super) async fn run(
    args: TargetArgs,
    login: &Login,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let target: Target = args.target.parse()?;
    let (mut keeper, _) = open(&target, args.dir.clone(), login, Purpose::Read, out).await?;
    let (observed, problems) = steady(&mut keeper).await?;
    let called = Called::of(&target, &args.target, args.dir.as_deref(), login);
    if let Some(start) = called
        .up()
        .filter(|_| is_stopped(&observed) && !out.is_json())
    {
        let servers = observed.servers().len();
        out.say(&format!(
            "stopped: none of its {servers} servers runs; start it: {start}"
        ));
        return Ok(ExitStatus::Failure);
    }
    print_problems(&problems, &observed, &called, out)?;
    let kept_out = match target {
        Target::Local(_) => kept_out(keeper.desired(), &observed),
        Target::Member(_) | Target::Kubernetes(_) => Vec::new(),
    };
    if out.is_json() {
        let wait = |wait| Wait::of(wait, &observed, Consent::default());
        let told: Vec<Wait> = kept_out.iter().map(wait).collect();
        out.record.put("kept_out", &told)?;
    }
    let told = if out.is_json() { &[] } else { &kept_out[..] };
    for wait in told {
        out.text(&format!("[ERR]  {}", named(&wait.to_string(), &observed)))?;
        let mend = hint(wait, Consent::default(), &observed);
        out.text(&format!("       {}", mend.trim_start_matches("; ")))?;
    }
    let told_by_operator = match &target {
        Target::Kubernetes(key) => Some(kubernetes::told(key, login).await?),
        Target::Local(_) | Target::Member(_) => None,
    };
    let lacks = told_by_operator.as_ref();
    let lacks = lacks.and_then(|told| told.not_applied.as_ref());
    if let Some(lacks) = lacks {
        if out.is_json() {
            out.record.put("not_applied", lacks)?;
        } else {
            out.text(&format!("[ERR]  {lacks}"))?;
        }
    }
    let fatal = fatal(&problems).count() + kept_out.len() + usize::from(lacks.is_some());
    out.say(&ClusterStatus::of(&observed).summary());
    if let Some(hint) = new_addresses(&target, &observed) {
        out.say(&hint);
    }
    if let Some(stale) = told_by_operator.and_then(|told| told.stale) {
        out.say(&stale);
    }
    if fatal > 0 {
        out.say(&format!("{fatal} problem(s)"));
        out.record.ending(Ending::Unhealthy);
        return Ok(ExitStatus::Failure);
    }
    out.done(&format!(
        "[OK] {} nodes agree; every slot is covered; every link is up",
        observed.members().len()
    ));
    Ok(ExitStatus::Success)
}

/// The servers of a cluster of ours whose nodes have no place in it, and those that can't load data which may be the only
/// copy: that they are not listed by the others, or do not answer, is said of all, but not what they hold.
fn kept_out(d: &Desired, o: &Observed) -> Vec<Waiting> {
    let foreign = standings(d, o)
        .into_iter()
        .filter_map(|(server, how)| match how {
            Standing::Foreign(what) => Some(Waiting::Foreign { server, what }),
            Standing::Member | Standing::MayJoin | Standing::Leaving | Standing::Unheard => None,
        });
    let servers = o.servers().values();
    let refused = servers
        .filter(|s| s.disk.known() == Some(&Disk::DataRefused) && !safety::may_set_aside(o, s));
    let refused = refused.map(|s| Waiting::DataRefused {
        server: s.name.clone(),
        failure: s.start_failure.clone(),
    });
    let all = foreign.chain(refused);
    all.filter(Waiting::needs_a_person).collect()
}

/// Whether every server is known not to run.
pub(super) fn is_stopped(o: &Observed) -> bool {
    let mut servers = o.servers().values();
    !o.servers().is_empty() && servers.all(|s| s.process.death().is_some())
}

/// Where one node alone answers, the others may live at addresses that nobody here knows: who brings them together.
pub(super) fn new_addresses(target: &Target, o: &Observed) -> Option<String> {
    let (heard, all) = (o.views().count(), o.members().len());
    let (Target::Member(endpoint), 1, true) = (target, heard, all > 2) else {
        return None;
    };
    Some(format!(
        "Of {all} nodes only {endpoint} answers. Where the others run at new addresses, name all {all} and they are brought \
         together again, with their data: shardwright create {endpoint} HOST:PORT... --unless-formed"
    ))
}
