//! One history: a cluster is formed, things go wrong, and after they end all must be well again.

use std::collections::{BTreeMap, BTreeSet};

use shardwright_planner::{Consent, Request, Waiting};
use shardwright_topology::{CodeDigest, NodeId};

use crate::dice::Dice;
use crate::drawing::Setting;
use crate::faults::Fault;
use crate::model::{Event, Model};
use crate::operator::{Operator, Trouble};
use crate::trace::Trace;

/// How long a cluster may take to be at rest after the last fault, in virtual time. The longest chain the engines
/// impose: a failure is declared (5 s) just after a denied election (20 s), the next falls into the voters' lock
/// (10 s), the failed primary is believed again after 10 s, writable after 5 s; and a first copy. Most need 3 s, and
/// none of 4 000 histories needed more than 17 s.
pub const REST_MAX_MS: u64 = 60_000;

/// The same bound in passes: one each 100 ms while something is waited for, and as many again for steps.
pub const PASSES_MAX: u64 = 2 * REST_MAX_MS / 100;

/// A plan that has been stuck for so long is judged as it stands: whatever the engines do by themselves about a dead
/// node is done within 2 × node-timeout.
const STUCK_MS: u64 = 12_000;

/// What came of a history.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// A hash of all that happened: equal seeds give equal hashes.
    pub hash: u64,
    /// What must never happen, and did.
    pub violations: Vec<String>,
    /// What happened, if asked for.
    pub lines: Vec<String>,
    /// Passes of the operator in all.
    pub passes: u64,
    /// Passes after the last fault until rest.
    pub passes_to_rest: u64,
    /// Virtual milliseconds after the last fault until rest.
    pub ms_to_rest: u64,
    /// Steps by kind of action.
    pub steps: BTreeMap<&'static str, u64>,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Whether it ended waiting for a person, rightly.
    pub needs_a_person: bool,
    /// Acknowledged writes.
    pub writes: u64,
    /// Acknowledged writes that were not there in the end, by no planned step.
    pub writes_lost: u64,
}

pub(crate) struct History {
    pub(crate) model: Model,
    pub(crate) operator: Operator,
    pub(crate) setting: Setting,
    pub(crate) dice: Dice,
    /// For what befalls hosts.
    pub(crate) hosts: Dice,
    /// For servers that are nearly full.
    pub(crate) room: Dice,
    pub(crate) copies: Dice,
    /// For tables of nodes that are lost.
    pub(crate) tables: Dice,
    /// For disks that are copied.
    pub(crate) disks: Dice,
    /// For what a person declares meanwhile.
    pub(crate) edits: Dice,
    /// For the functions that a person loads, in half of all histories.
    functions: Option<Dice>,
    faults: Vec<Fault>,
    pub(crate) struck: BTreeMap<&'static str, u64>,
    pub(crate) joined: u32,
    /// The forming of a cluster of guests, while something else is asked for.
    pub(crate) interrupted: Option<Request>,
    passes_to_rest: u64,
    ms_to_rest: u64,
    needs_a_person: bool,
    pub(crate) last_fault: u64,
}

/// Plays the history of a seed; with its text if `verbose`.
pub fn play(seed: u64, verbose: bool) -> Outcome {
    let mut dice = Dice::of(seed, 0);
    let mut hosts = Dice::of(seed, 8);
    let mut functions = Dice::of(seed, 10);
    let setting = Setting::draw(&mut dice, &mut hosts);
    let mut model = Model::new(seed, setting.profile, Trace::new(verbose));
    model
        .trace
        .note(model.now, format_args!("seed {seed}: {setting:?}"));
    let servers = usize::from(setting.shards * (1 + setting.replicas));
    for i in 0..servers {
        let place = setting.place(i as u64 % setting.hosts.max(1));
        model.add_seat(&format!("n{i}"), place, setting.persistence);
    }
    let names = model.seats.iter().map(|s| s.name.clone()).collect();
    let mut operator = Operator::new(seed, setting.forming(names));
    operator.wake(&mut model);
    let mut history = History {
        model,
        operator,
        setting,
        dice,
        hosts,
        edits: Dice::of(seed, 9),
        room: Dice::of(seed, 11),
        copies: Dice::of(seed, 12),
        tables: Dice::of(seed, 13),
        disks: Dice::of(seed, 14),
        functions: functions.chance(50).then_some(functions),
        faults: Vec::new(),
        struck: BTreeMap::new(),
        joined: 0,
        interrupted: None,
        passes_to_rest: 0,
        ms_to_rest: 0,
        needs_a_person: false,
        last_fault: 0,
    };
    history.play();
    history.outcome(seed)
}

impl History {
    fn run(&mut self) {
        if self.dice.chance(50) || !self.setting.managed {
            for seat in 0..self.model.seats.len() {
                self.model.start(seat, false);
            }
        }
        self.operator.trouble = self.draw_trouble();
        if !self.setting.faults_from_start {
            self.form();
        }
        if self.failed() {
            return;
        }
        if let Some(dice) = self.functions.take() {
            self.load_functions(dice);
        }
        self.model.write_every_ms = self.setting.write_every_ms;
        self.model.after(1, Event::Write);
        self.draw_faults();
        self.edit();
        self.until(self.last_fault + 500);
        self.mend();
        self.rest();
        self.accept_loss();
    }

    fn play(&mut self) {
        self.run();
        if self.failed() {
            self.tell_state();
        }
    }

    /// Whether a fault of this kind was among them.
    pub(crate) fn struck(&self, kind: &str) -> bool {
        self.struck.contains_key(kind)
    }

    fn failed(&self) -> bool {
        !self.model.oracle.violations.is_empty()
    }

    /// A person loads two libraries of functions at all primaries; in some histories one shard gets another code of the
    /// second. Whoever comes later has none.
    fn load_functions(&mut self, mut dice: Dice) {
        let nodes = self.model.seats.iter().filter_map(|s| s.node.as_ref());
        let heads: Vec<NodeId> = nodes.filter(|n| n.me().votes()).map(|n| n.id).collect();
        let other = dice.pick(&heads).filter(|_| dice.chance(50));
        let nodes = self.model.seats.iter_mut();
        for node in nodes.filter_map(|s| s.node.as_mut()) {
            let differs = other.is_some_and(|head| node.shard_head() == head);
            let code = |n: u8| CodeDigest::from_bytes([n; 32]);
            node.libraries = [
                ("first".to_owned(), code(1)),
                ("second".to_owned(), code(if differs { 3 } else { 2 })),
            ]
            .into();
        }
    }

    /// Forms the cluster; it must be at rest within the bound.
    fn form(&mut self) {
        let from = self.model.now;
        while !self.formed_since(from) && !self.failed() {
            if self.model.now > from + REST_MAX_MS {
                let plan = self.last_plan();
                self.model.accuse(format!("forming did not end: {plan}"));
                return;
            }
            self.step();
        }
        self.operator.desired = self.setting.desired();
        self.model
            .trace
            .note(self.model.now, format_args!("the cluster is formed"));
    }

    /// Whether a pass that began after this time found nothing to do.
    fn settled_since(&self, from: u64) -> bool {
        self.operator
            .last
            .as_ref()
            .is_some_and(|(at, plan)| *at > from + 10 && plan.is_settled())
    }

    /// The same, but for replicas that will move once all was at rest for a while: an operator that often crashes may
    /// never remember for so long that it was.
    fn formed_since(&self, from: u64) -> bool {
        let spreads = |w: &Waiting| matches!(w, Waiting::Spread { .. });
        self.operator.last.as_ref().is_some_and(|(at, plan)| {
            *at > from + 10 && plan.steps.is_empty() && plan.waiting.iter().all(spreads)
        })
    }

    pub(crate) fn last_plan(&self) -> String {
        self.operator.last.as_ref().map_or_else(
            || "no plan yet".to_owned(),
            |(_, plan)| {
                let steps: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
                let waits: Vec<String> = plan.waiting.iter().map(ToString::to_string).collect();
                crate::steps::named(&format!("steps {steps:?}, waits {waits:?}"), &self.model)
            },
        )
    }

    /// One event.
    fn step(&mut self) {
        let Some(event) = self.model.next() else {
            return;
        };
        match self.model.handle(event) {
            None => {}
            Some(Event::Operator(turn)) => self.operator.turn(turn, &mut self.model),
            Some(Event::Fault(i)) => self.strike(i),
            Some(_) => unreachable!("the model handles its own events"),
        }
    }

    pub(crate) fn until(&mut self, end: u64) {
        while self.model.next_at().is_some_and(|at| at <= end) && !self.failed() {
            self.step();
        }
    }

    pub(crate) fn plan_fault(&mut self, at: u64, fault: Fault) {
        let now = self.model.now;
        self.last_fault = self.last_fault.max(now + at);
        self.model.after(at, Event::Fault(self.faults.len()));
        self.faults.push(fault);
    }

    fn strike(&mut self, i: usize) {
        let fault = self.faults[i].clone();
        if let Some(kind) = fault.kind() {
            *self.struck.entry(kind).or_insert(0) += 1;
            let now = self.model.now;
            self.model.trace.note(now, format_args!("fault: {fault:?}"));
        }
        if let Fault::Ask(ask) = &fault {
            self.ask(*ask);
        }
        fault.strike(&mut self.model, &mut self.operator);
        let died: Vec<usize> = match &fault {
            Fault::Kill(seats) | Fault::Move(seats) | Fault::Wipe(seats) => seats.clone(),
            Fault::Tear(seat) | Fault::Rehost(seat, _) | Fault::MoveUnseen(seat) => vec![*seat],
            Fault::Swap(a, b) => vec![*a, *b],
            _ => Vec::new(),
        };
        for seat in died {
            if self.setting.supervised || !self.setting.managed {
                let ms = self.dice.within((1_000, 4_000));
                self.model.after(ms, Event::Fault(self.faults.len()));
                self.faults.push(Fault::Restart(seat));
            }
        }
    }

    /// All faults end.
    fn mend(&mut self) {
        if self.failed() {
            return;
        }
        self.model.cut.clear();
        Fault::OperatorMend.strike(&mut self.model, &mut self.operator);
        self.operator.trouble = Trouble::default();
        self.model.slow_bus_ms = 0;
        self.model.slow_stream_ms = 0;
        self.model.slow_copy_ms = 0;
        self.model.write_every_ms = 0;
        let request = &mut self.operator.desired.request;
        if !matches!(request, Some(Request::Form { .. })) {
            request.clone_from(&self.interrupted);
        }
        for seat in 0..self.model.seats.len() {
            let place = &mut self.model.seats[seat].place;
            (place.away_since, place.tied) = (None, None);
            self.model.thaw(seat);
            if self.model.seats[seat].foreign && !self.setting.stranger_stays {
                Fault::StrangerLeaves(seat).strike(&mut self.model, &mut self.operator);
            }
            if !self.setting.managed {
                Fault::Restart(seat).strike(&mut self.model, &mut self.operator);
            }
        }
        let now = self.model.now;
        self.model.trace.note(now, format_args!("all faults end"));
    }

    /// From here on the cluster must come to rest, or rightly wait for a person.
    fn rest(&mut self) {
        let (from, passes) = (self.model.now, self.operator.passes);
        let mut stuck_since = None;
        while !self.failed() {
            self.step();
            let now = self.model.now;
            let last = self.operator.last.as_ref();
            let stuck = last.is_some_and(|(at, plan)| *at > from && plan.is_stuck());
            stuck_since = stuck.then(|| stuck_since.unwrap_or(now));
            if stuck_since.is_some_and(|since| now - since > STUCK_MS)
                && self.truth_needs_a_person().is_some()
            {
                self.judge_stuck();
                return;
            }
            if self.settled_since(from + 100) {
                if self.request_ends() {
                    continue;
                }
                self.passes_to_rest = self.operator.passes - passes;
                self.ms_to_rest = self.model.now - from;
                self.check_end();
                return;
            }
            let spent = self.operator.passes - passes > PASSES_MAX;
            if self.model.now > from + REST_MAX_MS || spent {
                self.judge_stuck();
                return;
            }
        }
    }

    /// A guest cluster that was being formed when the faults began: the request is fulfilled now.
    fn request_ends(&mut self) -> bool {
        if !matches!(self.operator.desired.request, Some(Request::Form { .. })) {
            return false;
        }
        self.operator.desired = self.setting.desired();
        self.interrupted = None;
        self.operator.last = None;
        true
    }

    /// It is not at rest: that is right only where the truth asks for a person.
    fn judge_stuck(&mut self) {
        let plan = self.last_plan();
        let stuck = self
            .operator
            .last
            .as_ref()
            .is_some_and(|(_, plan)| plan.is_stuck());
        let why = self.truth_needs_a_person();
        if stuck && why.is_some() {
            self.needs_a_person = true;
            let now = self.model.now;
            self.model
                .trace
                .note(now, format_args!("waits for a person ({why:?}): {plan}"));
        } else {
            self.model
                .accuse(format!("no rest within {REST_MAX_MS} ms ({why:?}): {plan}"));
        }
    }

    /// Writes down where everyone stands, for whoever reads the history.
    fn tell_state(&mut self) {
        let mut lines = Vec::new();
        for s in &self.model.seats {
            let recorded = s.recorded.map(|id| self.model.name(id));
            let Some(n) = s.node.as_ref() else {
                lines.push(format!("{}: blank, recorded {recorded:?}", s.name));
                continue;
            };
            let me = n.me();
            let knows: Vec<String> = n.peers.keys().map(|id| self.model.name(*id)).collect();
            lines.push(format!(
                "{}: {} (recorded {recorded:?}, running {}) {} of {:?}, epoch {}, slots {}, ok {}, offset {}, keys {}, copy {}, knows {}",
                s.name,
                self.model.name(n.id),
                s.running,
                me.role,
                me.primary.map(|p| self.model.name(p)),
                me.epoch,
                me.slots,
                n.state_ok,
                n.offset,
                n.data.len(),
                n.copying.up,
                knows.join(" ")
            ));
        }
        let now = self.model.now;
        for line in lines {
            self.model.trace.note(now, format_args!("{line}"));
        }
    }

    /// Where data was lost for good, a person accepts it; then the cluster must come to rest after all.
    fn accept_loss(&mut self) {
        if self.failed() || !self.needs_a_person || !self.setting.managed {
            return;
        }
        for seat in 0..self.model.seats.len() {
            Fault::StrangerLeaves(seat).strike(&mut self.model, &mut self.operator);
        }
        self.operator.desired.consent = Consent {
            lose_data: true,
            ..Consent::default()
        };
        self.model.oracle.consent = true;
        let now = self.model.now;
        self.model
            .trace
            .note(now, format_args!("a person accepts the loss"));
        self.rest();
    }

    fn outcome(self, seed: u64) -> Outcome {
        let writes = self.model.writes.len() as u64;
        let lost = self.lost_writes();
        let mut faults = self.struck;
        faults.insert("operator crash", self.operator.crashes);
        faults.insert("lost reply", self.operator.lost_replies);
        faults.insert("doubled command", self.operator.doubled);
        Outcome {
            seed,
            hash: self.model.trace.hash(),
            violations: self.model.oracle.violations.clone(),
            passes: self.operator.passes,
            passes_to_rest: self.passes_to_rest,
            ms_to_rest: self.ms_to_rest,
            steps: self.operator.counts,
            faults,
            needs_a_person: self.needs_a_person,
            writes,
            writes_lost: lost,
            lines: self.model.trace.into_lines(),
        }
    }

    /// Acknowledged writes that no node holds at the end.
    pub(crate) fn lost_writes(&self) -> u64 {
        let held = self
            .model
            .seats
            .iter()
            .filter(|s| !s.foreign)
            .filter_map(|s| s.node.as_ref())
            .flat_map(|n| n.data.iter().map(|k| k.1));
        // What a full cache deletes when clients write is what it is there for.
        let evicted = self.model.oracle.evicted.iter().map(|k| k.1);
        let held: BTreeSet<u32> = held.chain(evicted).collect();
        self.model.writes.len() as u64 - held.len() as u64
    }
}
