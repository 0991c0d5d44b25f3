//! The keeper: observe, plan, check, one bounded batch, report; again until there is nothing to do.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use shardwright_engine::Access;
use shardwright_planner::{
    Action, Authority, Budget, Desired, Limits, Memory, Plan, Severity, Violation, Waiting,
    Witnesses, check, plan, to_record,
};
use shardwright_topology::{
    Address, NodeId, NodeView, Observed, Seen, Server, ServerName, SlotSet, Starter, Timestamp, Why,
};

use crate::duplicates::{Search, at_their_addresses};
use crate::execute::{Outcome, Proved, StepError, at_nodes, prove_addresses, require_apart};
use crate::hear::Look;
use crate::loads::slot_sizes;
use crate::moving::{self, Total};
use crate::refusals::Refusals;
use crate::step_log::{self, chain};
use crate::{Links, Runtime, RuntimeError, Seat, counts, functions, hear};

/// How long to the next look while something is under way: gossip brings news within tens of milliseconds.
const BUSY: Duration = Duration::from_millis(30);
/// How long to the next look while all is at rest. A close or a reaped child wakes the keeper at once.
const IDLE: Duration = Duration::from_millis(500);
/// How long a plan must stay stuck before it is called so: slower news may yet unlock it.
const STUCK_AFTER: Duration = Duration::from_secs(2);

/// What one pass saw, decided and did.
#[derive(Debug)]
pub struct Report {
    /// What was seen.
    pub observed: Observed,
    /// What was decided.
    pub plan: Plan,
    /// What the linter found fatal. If anything, no step was taken.
    pub violations: Vec<Violation>,
    /// How the steps ended.
    pub outcomes: Vec<Outcome>,
    /// How much the keeper has moved so far, since it began.
    pub moved: Total,
}

/// How a run of passes ended.
#[derive(Debug)]
pub enum End {
    /// There is nothing to do and nothing to wait for.
    Settled(Box<Report>),
    /// Nothing more will happen unless a person does something.
    Stuck(Box<Report>),
    /// The time was up.
    TimedOut(Box<Report>),
    /// It was told to stop. Every step that was begun has ended.
    Stopped(Box<Report>),
    /// A step failed in a way that will not pass by itself, or the linter stopped the plan.
    Failed(Box<Report>),
}

/// Keeps one cluster as it is desired.
#[derive(Debug)]
pub struct Keeper<R> {
    runtime: R,
    links: Links,
    desired: Desired,
    limits: Limits,
    memory: Memory,
    /// Looks for second processes with one node id.
    search: Search,
    /// Whether nothing was to be done or waited for at the last look: then the next one is a glance.
    rests: bool,
    /// What is held while it may change the cluster.
    locks: Vec<Box<dyn Any + Send + Sync>>,
}

impl<R: Runtime> Keeper<R> {
    /// A keeper of the servers of this runtime.
    pub fn new(runtime: R, links: Links, desired: Desired, limits: Limits) -> Self {
        Self {
            runtime,
            links,
            desired,
            limits,
            memory: Memory::default(),
            search: Search::default(),
            rests: false,
            locks: Vec::new(),
        }
    }

    /// What it keeps to.
    pub fn desired(&self) -> &Desired {
        &self.desired
    }

    /// Wants something else from now on.
    pub fn set_desired(&mut self, desired: Desired) {
        self.desired = desired;
    }

    /// Keeps other bounds and times from now on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Enters servers in this way from now on. Connections that are open are closed; what is remembered stays.
    pub fn set_access(&mut self, access: Access) {
        let links = Links::new(access, self.links.pen().map(str::to_owned));
        links.set_budget(self.links.budget());
        self.links = links;
    }

    /// Holds a lock, by which others are kept from the same cluster, for as long as this value lives.
    pub fn hold(&mut self, lock: impl Any + Send + Sync) {
        self.locks.push(Box::new(lock));
    }

    /// Its connections.
    pub fn links(&self) -> &Links {
        &self.links
    }

    /// Its runtime.
    pub fn runtime(&self) -> &R {
        &self.runtime
    }

    /// The runtime, to be changed.
    pub fn runtime_mut(&mut self) -> &mut R {
        &mut self.runtime
    }

    /// One look at everything: the servers known, then those that they showed, until there are no more.
    pub async fn observe(&mut self) -> Result<Observed, RuntimeError> {
        let mut heard: Vec<(Seat, Seen<NodeView>)> = Vec::new();
        loop {
            let mut fresh = self.runtime.seats(now()).await?;
            fresh.retain(|s| !heard.iter().any(|(known, _)| known.name == s.name));
            if fresh.is_empty() {
                break;
            }
            heard.extend(self.hear(fresh).await);
            let views: Vec<(ServerName, NodeView)> = heard
                .iter()
                .filter_map(|(seat, view)| Some((seat.name.clone(), view.known()?.clone())))
                .collect();
            self.runtime.learn(&views).await?;
        }
        // Which slots are open or nobody's is known once all were heard.
        let (seats, mut views): (Vec<Seat>, Vec<Seen<NodeView>>) = heard.into_iter().unzip();
        counts::count(&self.links, &seats, &mut views, &self.memory).await;
        functions::read(&self.links, &seats, &mut views).await;
        let heard: Vec<(Seat, Seen<NodeView>)> = seats.into_iter().zip(views).collect();
        let known = self.memory.duplicates();
        let found = self.search.look(&self.links, &heard, &known).await;
        self.memory.note_duplicates(found, now());
        self.merge(heard).await
    }

    /// Asks everyone that was heard once more, by connections of their own: an address that leads to two processes in
    /// turn shows it so. What is found is added to the observation, and remembered.
    pub async fn confirm_identities(&mut self, observed: &mut Observed) {
        let found = at_their_addresses(&self.links, observed).await;
        for duplicate in &found {
            observed.note_duplicate(duplicate.clone());
        }
        self.memory.note_duplicates(found, now());
    }

    async fn hear(&self, seats: Vec<Seat>) -> Vec<(Seat, Seen<NodeView>)> {
        // A process that was dead a moment ago may run again where its host starts it.
        let asked: Vec<(ServerName, Address)> = seats
            .iter()
            .filter(|s| s.process.death().is_none() || s.starter == Starter::Host)
            .filter_map(|s| Some((s.name.clone(), s.address.known()?.clone())))
            .collect();
        let look = if self.rests {
            Look::Glance
        } else {
            Look::Whole
        };
        let answers = hear::hear(&self.links, &asked, look).await;
        let mut answers = asked
            .into_iter()
            .map(|(name, _)| name)
            .zip(answers)
            .collect::<Vec<_>>();
        let mut out = Vec::new();
        for seat in seats {
            let answer = answers
                .iter()
                .position(|(name, _)| *name == seat.name)
                .map(|i| answers.swap_remove(i).1);
            let view = match (answer, &seat.address) {
                (Some(view), _) => view,
                (None, _) if seat.process.death().is_some() => Seen::Unknown(Why::Refused),
                (None, Seen::Unknown(why)) => Seen::Unknown(why.clone()),
                (None, Seen::Known(_)) => Seen::Unknown(Why::NotAsked),
            };
            out.push((seat, view));
        }
        out
    }

    async fn merge(
        &mut self,
        heard: Vec<(Seat, Seen<NodeView>)>,
    ) -> Result<Observed, RuntimeError> {
        let at = now();
        // Learning may have corrected what the runtime says of a seat (such as its announced address).
        let seats = self.runtime.seats(at).await?;
        let refuses: BTreeSet<&ServerName> = heard
            .iter()
            .filter(|(_, view)| *view == Seen::Unknown(Why::Refused))
            .map(|(seat, _)| &seat.name)
            .collect();
        let witnesses = Witnesses::new(
            &self.desired,
            heard.iter().filter_map(|(_, view)| view.known()),
        );
        let gone: BTreeSet<ServerName> = seats
            .iter()
            .filter(|s| {
                let why = witnesses.why_not_dead(s.recorded_id, &s.address, &s.disk);
                refuses.contains(&s.name) && why.is_none()
            })
            .map(|s| s.name.clone())
            .collect();
        let outdated = seats.iter();
        let outdated = outdated.filter_map(|s| Some((s.name.clone(), s.outdated.clone()?)));
        let outdated = outdated.collect();
        let mut servers = Vec::new();
        for (old, view) in heard {
            let Some(seat) = seats.iter().find(|s| s.name == old.name) else {
                continue;
            };
            let process = self.memory.process(
                &seat.name,
                &seat.process,
                seat.starter,
                &view,
                gone.contains(&seat.name),
                at,
            );
            let last_heard = self.memory.last_heard(&seat.name, &view);
            // A process that ended between the answer and now no longer speaks.
            let view = if process.death().is_some() {
                Seen::Unknown(Why::Refused)
            } else {
                view
            };
            servers.push(Server {
                name: seat.name.clone(),
                address: seat.address.clone(),
                place: seat.place_said(view.known().or(last_heard.as_deref())),
                process,
                starter: seat.starter,
                leaving: seat.leaving,
                view,
                last_heard,
                disk: seat.disk.clone(),
                disk_row: seat.disk_row.clone(),
                start_failure: seat.start_failure.clone(),
                recorded_id: seat.recorded_id,
            });
        }
        let mut observed = Observed::new(at, self.runtime.formed(), servers);
        observed.outdated = outdated;
        self.memory.recall(&mut observed);
        Ok(observed)
    }

    fn plan(&self, desired: &Desired, observed: &Observed) -> Plan {
        plan(desired, observed, &self.limits, now())
    }

    /// Looks and decides, and does nothing.
    pub async fn look(&mut self) -> Result<Report, RuntimeError> {
        let mut observed = self.observe().await?;
        let mut desired = self.desired.clone();
        desired.moves_paused |= self.runtime.moves_paused()?;
        let mut plan = self.plan(&desired, &observed);
        // What is to be done is decided by a whole look.
        if std::mem::take(&mut self.rests) && !plan.is_settled() {
            observed = self.observe().await?;
            plan = self.plan(&desired, &observed);
        }
        if self.measure(&plan.unmeasured(), &mut observed).await {
            plan = self.plan(&desired, &observed);
        }
        self.rests = plan.is_settled();
        let mut violations = check(&plan, &desired, &observed);
        violations.retain(|v| v.severity == Severity::Fatal);
        Ok(Report {
            observed,
            plan,
            violations,
            outcomes: Vec::new(),
            moved: self.moved(),
        })
    }

    /// Measures what slots hold at these nodes, and adds it to what was observed. False where nothing was learned.
    pub async fn measure(
        &mut self,
        wanted: &BTreeMap<NodeId, SlotSet>,
        observed: &mut Observed,
    ) -> bool {
        let links = &self.links;
        let o = &*observed;
        let asked = wanted.iter().map(|(node, slots)| async move {
            let sizes = slot_sizes(links, o, *node, slots).await;
            (*node, sizes)
        });
        let mut learned = false;
        for (node, sizes) in join_all(asked).await {
            match sizes {
                Ok(sizes) => {
                    learned |= !sizes.is_empty();
                    self.memory.measured(node, sizes, observed.at);
                }
                Err(error) => {
                    tracing::warn!(%node, error = chain(&error), "slots were not measured");
                }
            }
        }
        self.memory.recall_sizes(observed);
        learned
    }

    /// One pass: look, decide, and take the steps that can be taken now.
    pub async fn pass(&mut self) -> Result<Report, RuntimeError> {
        let mut report = self.look().await?;
        if !report.violations.is_empty() {
            tracing::error!(violations = ?report.violations, "the plan was stopped by its linter");
            return Ok(report);
        }
        let nodes = to_record(&self.desired, &report.observed);
        if !nodes.is_empty() {
            self.runtime.record_members(&nodes).await?;
        }
        if report.plan.is_settled() {
            self.runtime.settled().await?;
        }
        report.outcomes = self.execute(&report.plan, &report.observed).await;
        report.moved = self.moved();
        Ok(report)
    }

    async fn execute(&mut self, plan: &Plan, observed: &Observed) -> Vec<Outcome> {
        let at = now();
        for step in &plan.steps {
            self.memory.asked(&step.action, at);
        }
        let proved = prove_addresses(&self.links, observed, plan).await;
        let mut outcomes = self.at_nodes(plan, observed, &proved).await;
        for step in plan.steps.iter().filter(|s| s.action.at().is_none()) {
            let result = match require_apart(&self.links, observed, &proved, step).await {
                Ok(()) => self.at_runtime(&step.action, at).await,
                Err(moved) => Err(moved),
            };
            outcomes.push(Outcome {
                step: step.clone(),
                result,
            });
        }
        step_log::log(&outcomes, observed);
        outcomes
    }

    /// Does what is done at nodes. A hint of anything new makes slots that move wait for the next plan.
    async fn at_nodes(
        &mut self,
        plan: &Plan,
        observed: &Observed,
        proved: &Proved,
    ) -> Vec<Outcome> {
        let moves = self.links.moves();
        moves.begin(self.desired.consent.force_memory);
        let mut work = std::pin::pin!(at_nodes(&self.links, observed, plan, proved));
        tokio::select! {
            biased;
            outcomes = &mut work => return outcomes,
            () = self.links.woken() => {}
            () = self.runtime.woken() => {}
        }
        moves.hurry();
        work.await
    }

    /// How many slots and keys it has moved.
    pub fn moved(&self) -> Total {
        self.links.moves().total()
    }

    /// What moving slots may cost the clients from now on.
    pub fn set_budget(&self, budget: Budget) {
        self.links.set_budget(budget);
    }

    /// Does what is done at no node.
    async fn at_runtime(&mut self, action: &Action, at: Timestamp) -> Result<(), StepError> {
        match action {
            Action::StartServer { server } => self.runtime.start(server).await?,
            Action::StartAfresh { server } => self.runtime.start_afresh(server).await?,
            Action::Recreate { server, host } => self.runtime.recreate(server, host).await?,
            Action::Replace { server, made_from } => {
                self.runtime.replace(server, made_from).await?;
            }
            Action::RemoveServer { server } => self.runtime.remove(server).await?,
            Action::RecordFormed => self.runtime.record_formed(at).await?,
            Action::SetConfigEpoch { .. }
            | Action::AddSlots { .. }
            | Action::Meet { .. }
            | Action::Replicate { .. }
            | Action::Switchover { .. }
            | Action::Failover { .. }
            | Action::Takeover { .. }
            | Action::Forget { .. }
            | Action::Reset { .. }
            | Action::CloseSlot { .. }
            | Action::CopyFunctions { .. }
            | Action::SetElectable { .. }
            | Action::AssignSlot { .. }
            | Action::RaiseEpoch { .. }
            | Action::MoveKeys { .. }
            | Action::MoveSlots { .. } => {}
        }
        Ok(())
    }

    /// Passes until nothing is left to do, nothing more can be done, or the time is up.
    pub async fn settle(
        &mut self,
        limit: Duration,
        tell: impl FnMut(&Report),
    ) -> Result<End, RuntimeError> {
        self.settle_or_stop(limit, std::future::pending(), tell)
            .await
    }

    /// The same, until `stop` ends: then slots that move stop soon, and the pass that is under way is the last.
    pub async fn settle_or_stop(
        &mut self,
        limit: Duration,
        stop: impl Future<Output = ()>,
        mut tell: impl FnMut(&Report),
    ) -> Result<End, RuntimeError> {
        let mut stop = std::pin::pin!(stop);
        let deadline = Instant::now() + limit;
        let mut stuck_since: Option<Instant> = None;
        let mut refusals = Refusals::default();
        let mut slots_moved = self.moved().slots;
        loop {
            let (report, stopped) = self.pass_or_halt(stop.as_mut()).await?;
            tell(&report);
            if report.plan.is_settled() {
                return Ok(End::Settled(Box::new(report)));
            }
            let again = refusals.note(&report, Instant::now());
            if !report.violations.is_empty() || is_hopeless(&report.outcomes) || again {
                return Ok(End::Failed(Box::new(report)));
            }
            // Who paused the moves may let them go on: that is waited for.
            let paused = report.plan.awaits_resume();
            let stuck = report.plan.is_stuck() && !paused;
            stuck_since = (stuck || self.only_the_silent(&report.plan))
                .then(|| stuck_since.unwrap_or_else(Instant::now));
            if stuck_since.is_some_and(|since| since.elapsed() >= STUCK_AFTER) {
                return Ok(End::Stuck(Box::new(report)));
            }
            if stopped {
                return Ok(End::Stopped(Box::new(report)));
            }
            if Instant::now() >= deadline {
                return Ok(End::TimedOut(Box::new(report)));
            }
            // What moved needs no time to be heard of: both ends know it.
            let before = std::mem::replace(&mut slots_moved, report.moved.slots);
            if report.moved.slots == before || !only_moved(&report.outcomes) {
                self.pause(if paused { IDLE } else { BUSY }).await;
            }
        }
    }

    /// One pass, and whether it was told to stop meanwhile. Then slots that move stop soon: after a burst, never in it.
    async fn pass_or_halt(
        &mut self,
        stop: std::pin::Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(Report, bool), RuntimeError> {
        let moves = Arc::clone(self.links.moves());
        moves.halt(false);
        let mut pass = std::pin::pin!(self.pass());
        tokio::select! {
            biased;
            () = stop => {}
            report = &mut pass => return Ok((report?, false)),
        }
        moves.halt(true);
        Ok((pass.await?, true))
    }

    /// Looks, and looks again while what is seen is not calm, until the time is up. Does nothing.
    pub async fn observe_until(
        &mut self,
        calm: impl Fn(&Observed) -> bool,
        limit: Duration,
    ) -> Result<Observed, RuntimeError> {
        let deadline = Instant::now() + limit;
        loop {
            let observed = self.observe().await?;
            if calm(&observed) || Instant::now() >= deadline {
                return Ok(observed);
            }
            self.pause(BUSY).await;
        }
    }

    /// Whether all that is waited for are servers that do not run, and that are not ours to start; or that are unreachable,
    /// where a person knows of one that it is dead.
    fn only_the_silent(&self, plan: &Plan) -> bool {
        let refuses = |w: &Waiting| {
            matches!(
                w,
                Waiting::ServerUnheard {
                    why: Why::Refused,
                    ..
                }
            )
        };
        let silent = |w: &Waiting| {
            matches!(
                w,
                Waiting::ServerUnheard {
                    why: Why::Refused | Why::TimedOut | Why::Unreachable(_),
                    ..
                } | Waiting::PrimarySilent { .. }
                    | Waiting::MajorityLost(_)
            )
        };
        let mut waiting = plan.waiting.iter();
        let only = if self.desired.consent.primary_is_dead {
            waiting.all(silent)
        } else {
            self.desired.authority == Authority::Guest && waiting.all(refuses)
        };
        plan.steps.is_empty() && !plan.waiting.is_empty() && only
    }

    /// Keeps the cluster until `stop` ends. Every pass is told.
    pub async fn watch(
        &mut self,
        stop: impl Future<Output = ()>,
        mut tell: impl FnMut(&Report),
    ) -> Result<(), RuntimeError> {
        let mut stop = std::pin::pin!(stop);
        loop {
            let (report, stopped) = self.pass_or_halt(stop.as_mut()).await?;
            tell(&report);
            if stopped {
                return Ok(());
            }
            let still = report.plan.is_settled() || report.plan.is_stuck();
            let rest = if still || is_hopeless(&report.outcomes) {
                IDLE
            } else {
                BUSY
            };
            tokio::select! {
                biased;
                () = &mut stop => return Ok(()),
                () = self.pause(rest) => {}
            }
        }
    }

    /// Ends at the next hint, or after this time at the latest. What the hint was does not matter: all is looked at.
    async fn pause(&mut self, longest: Duration) {
        tokio::select! {
            () = self.links.woken() => {}
            () = self.runtime.woken() => {}
            () = tokio::time::sleep(longest) => {}
        }
    }
}

/// Whether a pass moved slots, all that it was to, and did nothing else.
fn only_moved(outcomes: &[Outcome]) -> bool {
    let moved = |o: &Outcome| o.result.is_ok() && matches!(o.step.action, Action::MoveSlots { .. });
    !outcomes.is_empty() && outcomes.iter().all(moved)
}

/// Whether another pass can't do what this one could not. What a person has to decide about one slot keeps nothing else
/// from being done first.
fn is_hopeless(outcomes: &[Outcome]) -> bool {
    let undecided = |o: &Outcome| matches!(o.result, Err(StepError::BothSides { .. }));
    let progress = outcomes.iter().any(|o| o.result.is_ok());
    outcomes.iter().any(|o| will_not_pass(&o.result))
        || (!progress && outcomes.iter().any(undecided))
}

fn will_not_pass(result: &Result<(), StepError>) -> bool {
    match result {
        Err(StepError::Server(error)) => error.retry() == shardwright_engine::Retry::Never,
        Err(StepError::Runtime(_) | StepError::NoDatabase { .. }) => true,
        Err(StepError::Move(error)) => moving::will_not_pass(error),
        Err(
            StepError::Moved(_)
            | StepError::Untold(_)
            | StepError::Skipped
            | StepError::BothSides { .. },
        )
        | Ok(()) => false,
    }
}

/// The time on this machine's clock.
fn now() -> Timestamp {
    // A clock before 1970 is a machine without a clock; then every age is 0, and nothing is hurried.
    Timestamp(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
    )
}
