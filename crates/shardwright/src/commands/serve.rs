//! What a run that holds the lock of a local cluster does about requests of others, beside its own work.

use std::time::{Duration, Instant};

use shardwright_manifest::Cluster;
use shardwright_runtime::{Keeper, Report};
use shardwright_runtime_local::{EngineChoice, Local, Options, find_engine};

use super::{change, down, failover, fix, rebalance, up};
use crate::exit::ExitStatus;
use crate::handover::{Declaration, Promotion, Repair, Request};
use crate::printer::Printer;
use crate::requests::{Asked, Control, Gone, Overtaken, Requests};
use crate::target::{Called, Target};

/// Where requests come in, and who is told of each pass.
pub(super) struct Incoming<'a> {
    pub(super) requests: &'a mut Requests,
    pub(super) tell: &'a mut dyn FnMut(&Report),
}

impl Incoming<'_> {
    fn control<'a>(&'a mut self, gone: Option<&'a mut Gone>) -> Control<'a> {
        Control::requests(self.requests)
            .asked_by(gone)
            .telling(self.tell)
    }
}

/// What is worked at until it is so.
#[derive(Clone, Copy, Debug)]
pub(super) enum Work<'a> {
    /// The cluster is as it is desired.
    Goal {
        /// In seconds.
        timeout_s: u64,
        /// What is said once it is.
        done: &'a str,
    },
    /// A replica is the primary of its shard.
    Promote(&'a Promotion),
    /// Nothing is left that can be repaired.
    Repair(&'a Repair),
    /// All shards have as many slots.
    EvenOut {
        /// In seconds.
        timeout_s: u64,
    },
}

impl Work<'_> {
    /// How long it may take, in seconds.
    fn timeout_s(&self) -> u64 {
        match self {
            Self::Goal { timeout_s, .. } | Self::EvenOut { timeout_s } => *timeout_s,
            Self::Promote(promotion) => promotion.timeout_s,
            Self::Repair(repair) => repair.timeout_s,
        }
    }

    /// `timeout_s`: what is left of its time, in seconds.
    async fn carry_out(
        self,
        timeout_s: u64,
        keeper: &mut Keeper<Local>,
        control: &mut Control<'_>,
        out: &mut Printer,
    ) -> anyhow::Result<ExitStatus> {
        match self {
            Self::Goal { done, .. } => {
                change::carry_out(keeper, timeout_s, done, control, out).await
            }
            Self::Promote(promotion) => {
                let promotion = Promotion {
                    timeout_s,
                    ..promotion.clone()
                };
                failover::promote(keeper, &promotion, control, out).await
            }
            Self::Repair(repair) => {
                let repair = Repair {
                    timeout_s,
                    ..repair.clone()
                };
                let target = Target::Local(Some(keeper.runtime().state().name.clone()));
                let called = Called::local(&repair.target, repair.dir.as_deref());
                fix::fix_it(keeper, &repair, (&target, &called), control, out).await
            }
            Self::EvenOut { .. } => rebalance::even_out(keeper, timeout_s, control, out).await,
        }
    }
}

/// What is left of a time, in whole seconds: one at least, so that whether it is so is seen in any case.
fn seconds_left(deadline: Instant) -> u64 {
    let left = deadline.saturating_duration_since(Instant::now());
    let begun = u64::from(left.subsec_nanos() > 0);
    left.as_secs().saturating_add(begun).max(1)
}

/// Whether there is anything to go on with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum After {
    /// There is.
    GoesOn,
    /// The servers were stopped.
    Stopped,
}

/// What a request came into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Beside {
    /// Nothing was worked at.
    Watch,
    /// Something is worked at, which the request leaves as it is.
    Work,
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
    pub(super) after: After,
    pub(super) status: ExitStatus,
    /// Whether it changed anything, as far as that is known.
    pub(super) changed: bool,
}

/// Works until it is so. Requests that leave what is desired as it is are answered in between; another one ends this,
/// and is left to whoever called.
pub(super) async fn work(
    keeper: &mut Keeper<Local>,
    work: Work<'_>,
    mut gone: Option<&mut Gone>,
    incoming: &mut Incoming<'_>,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let deadline = Instant::now() + Duration::from_secs(work.timeout_s());
    loop {
        let mut control = incoming.control(gone.as_deref_mut());
        let left_s = seconds_left(deadline);
        let ended = work.carry_out(left_s, keeper, &mut control, out).await;
        let overtaken = ended.as_ref().is_err_and(anyhow::Error::is::<Overtaken>);
        let stays = |asked: &Asked| leaves_goal(keeper.runtime(), &asked.request);
        if !overtaken || !incoming.requests.waiting().is_some_and(stays) {
            return ended;
        }
        if let Some(asked) = incoming.requests.take() {
            out.say(&format!("asked for {} meanwhile", asked.what()));
            Box::pin(answer(keeper, asked, incoming, Beside::Work)).await;
        }
    }
}

/// Whether a request leaves what this cluster is to be as it is.
fn leaves_goal(local: &Local, request: &Request) -> bool {
    match request {
        Request::Up(declaration) => declares_the_same(local, declaration),
        Request::Failover(_) | Request::Fix(_) | Request::Rebalance { .. } => true,
        Request::Down { .. } => false,
    }
}

/// Whether a declaration says nothing but what is declared already.
fn declares_the_same(local: &Local, declaration: &Declaration) -> bool {
    let Ok(accepted) = Cluster::from_text(&declaration.manifest) else {
        return false;
    };
    let first = local.state().servers.values().map(|s| s.port).min();
    &accepted.cluster == local.cluster()
        && declaration.engine == local.state().engine
        && declaration.port.is_none_or(|port| Some(port) == first)
        && declaration.secrets.is_none()
        && !declaration.accept_data_loss
}

/// Carries out what was asked for, and says there how it ended. What is desired afterwards is what was before, unless
/// that is what was asked for.
pub(super) async fn answer(
    keeper: &mut Keeper<Local>,
    mut asked: Asked,
    incoming: &mut Incoming<'_>,
    beside: Beside,
) -> Answered {
    asked.accept();
    let (mut desired, budget) = (keeper.desired().clone(), keeper.links().budget());
    let (request, out, gone) = asked.parts();
    let mut after = After::GoesOn;
    let ended = match request {
        Request::Up(declaration) if beside == Beside::Work => {
            join(keeper, declaration, gone, incoming, out).await
        }
        Request::Up(declaration) => match declare(keeper, declaration, out) {
            Err(error) => Err(error),
            Ok(done) => {
                // Consent is given for what was asked for, not for whatever may come.
                let consent = desired.consent;
                desired = keeper.runtime().cluster().desired();
                desired.consent = consent;
                let goal = Work::Goal {
                    timeout_s: declaration.timeout_s,
                    done: &done,
                };
                work(keeper, goal, Some(gone), incoming, out).await
            }
        },
        Request::Failover(promotion) => {
            let promote = Work::Promote(promotion);
            work(keeper, promote, Some(gone), incoming, out).await
        }
        Request::Fix(repair) => {
            let repair = Work::Repair(repair);
            work(keeper, repair, Some(gone), incoming, out).await
        }
        Request::Rebalance { timeout_s, pace } => {
            change::keep_pace(keeper, &(*pace).into());
            let timeout_s = *timeout_s;
            work(
                keeper,
                Work::EvenOut { timeout_s },
                Some(gone),
                incoming,
                out,
            )
            .await
        }
        Request::Down { purge } => {
            let ended = down::stop(keeper.runtime(), *purge, out).await;
            if ended.is_ok() {
                after = After::Stopped;
            }
            ended
        }
    };
    keeper.set_desired(desired);
    keeper.set_budget(budget);
    let changed = asked.out.record.has_changed();
    Answered {
        after,
        status: asked.end(ended).await,
        changed,
    }
}

/// Waits for what is declared, and worked at, already: with the consent and at the pace that were given for it.
async fn join(
    keeper: &mut Keeper<Local>,
    declaration: &Declaration,
    gone: &mut Gone,
    incoming: &mut Incoming<'_>,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    out.record.begin();
    // What else a person asked for goes on afterwards.
    if keeper.desired().request.is_some() {
        keeper.set_desired(keeper.runtime().cluster().desired());
    }
    let done = declaration.done.clone();
    let done = done.unwrap_or_else(|| up::how_to_connect(keeper.runtime()));
    let goal = Work::Goal {
        timeout_s: declaration.timeout_s,
        done: &done,
    };
    work(keeper, goal, Some(gone), incoming, out).await
}

/// Declares the cluster anew. Returns what is said once it is so; an error changes nothing.
fn declare(
    keeper: &mut Keeper<Local>,
    declaration: &Declaration,
    out: &mut Printer,
) -> anyhow::Result<String> {
    let cluster = Cluster::from_text(&declaration.manifest)?.cluster;
    let engine = find_engine(&EngineChoice::Path(declaration.engine.clone()))?;
    let options = Options {
        port: declaration.port,
        secrets: declaration.secrets.clone(),
    };
    let local = keeper.runtime();
    let before = local.cluster().clone();
    out.record.begin();
    let opened = local.declare(&declaration.manifest, cluster, &engine, &options)?;
    out.record.changed(&before != opened.local.cluster());
    let local = up::welcome(opened, &engine, out);
    let done = declaration.done.clone();
    let done = done.unwrap_or_else(|| up::how_to_connect(&local));
    let desired = change::consenting(&local.cluster().desired(), declaration.accept_data_loss);
    keeper.set_limits(local.cluster().limits());
    *keeper.runtime_mut() = local;
    keeper.set_desired(desired);
    change::keep_pace(keeper, &declaration.pace.into());
    Ok(done)
}

/// Ends the work of a run, and lets those that asked for something else meanwhile take its place.
pub(super) async fn yield_to_next(keeper: Keeper<Local>, mut requests: Requests) {
    requests.close().await;
    // The lock goes with it.
    drop(keeper);
    requests.yield_to_all().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_time_is_never_nothing() {
        let now = Instant::now();
        assert_eq!(seconds_left(now), 1);
        let left = seconds_left(now + Duration::from_secs(90));
        assert!((80..=90).contains(&left), "{left}");
    }
}
