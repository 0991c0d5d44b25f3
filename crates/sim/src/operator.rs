//! The operator: it observes, plans, checks, and takes the steps, with all that can go wrong in between.

use std::collections::{BTreeMap, VecDeque};

use shardwright_planner::{
    Authority, Desired, Limits, Memory, Plan, Severity, Step, Witnesses, check, plan, to_record,
};
use shardwright_topology::{
    Death, DeathProof, Formed, NodeId, NodeView, Observed, Process, Seen, Server, Starter,
    Timestamp, Why,
};

use crate::dice::Dice;
use crate::model::{Event, Model};
use crate::moving::Movers;
use crate::steps::{groups, holds, kind, named, seat_of, spreads};

/// How long an answer is waited for.
const ASK_TIMEOUT_MS: u64 = 500;
/// From one pass to the next when steps were taken.
const BUSY_MS: u64 = 50;
/// The same when something is waited for.
const WAITING_MS: u64 = 100;
/// The same when all is at rest.
const IDLE_MS: u64 = 500;
/// From one look to the next whether all moves of slots have ended.
const MOVING_MS: u64 = 5;

/// Replicas move sooner than by default: the less patient the planner, the more it does while things go wrong.
const SPREAD_AFTER_MS: u64 = 2_000;

/// One turn of the operator; the number tells turns of an earlier life.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Turn {
    Begin(u64),
    Ask(u64, usize),
    /// The time for an answer is over.
    Late(u64, usize),
    Decide(u64),
    Step(u64),
    /// Slots are moved on.
    Move(u64),
}

/// How often things go wrong with the operator itself, in percent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Trouble {
    pub(crate) lost_reply: u64,
    pub(crate) doubled: u64,
    pub(crate) crash: u64,
    pub(crate) deaf: u64,
}

/// The operator.
pub(crate) struct Operator {
    pub(crate) desired: Desired,
    limits: Limits,
    /// Kept on its store: survives a crash.
    pub(crate) formed: Option<Formed>,
    pub(crate) trouble: Trouble,
    pub(crate) passes: u64,
    pub(crate) counts: BTreeMap<&'static str, u64>,
    pub(crate) crashes: u64,
    pub(crate) lost_replies: u64,
    pub(crate) doubled: u64,
    /// The plan of the last whole pass, and when it was made.
    pub(crate) last: Option<(u64, Plan)>,
    memory: Memory,
    dead_since: BTreeMap<usize, u64>,
    pub(crate) life: u64,
    /// What moves slots in this pass.
    pub(crate) movers: Movers,
    pass: Option<Pass>,
    hint: bool,
    cache: Option<(Vec<Server>, Option<Formed>, Observed)>,
    /// Whether steps are written to the trace by name: for scripts.
    pub(crate) transcript: Option<Vec<String>>,
    pub(crate) dice: Dice,
}

#[derive(Default)]
struct Pass {
    heard: BTreeMap<usize, (Process, Seen<NodeView>)>,
    asked: usize,
    observed: Option<Observed>,
    groups: Vec<VecDeque<Step>>,
}

impl Operator {
    pub(crate) fn new(seed: u64, desired: Desired) -> Self {
        Self {
            desired,
            limits: Limits {
                node_timeout_ms: crate::facts::NODE_TIMEOUT_MS,
                spread_after_ms: SPREAD_AFTER_MS,
                ..Limits::default()
            },
            formed: None,
            trouble: Trouble::default(),
            passes: 0,
            counts: BTreeMap::new(),
            crashes: 0,
            lost_replies: 0,
            doubled: 0,
            last: None,
            memory: Memory::default(),
            dead_since: BTreeMap::new(),
            life: 0,
            movers: Movers::default(),
            pass: None,
            hint: false,
            cache: None,
            transcript: None,
            dice: Dice::of(seed, 7),
        }
    }

    /// Something happened that is worth a look: a held connection closed, a watch fired.
    pub(crate) fn wake(&mut self, model: &mut Model) {
        if self.pass.is_some() {
            self.hint = true;
        } else {
            self.begin_in(2, model);
        }
    }

    /// Does nothing more until it is woken.
    pub(crate) fn rest(&mut self) {
        self.life += 1;
        self.pass = None;
        self.movers.clear();
        self.hint = false;
    }

    /// One look at everything, at once.
    pub(crate) fn look(&mut self, model: &mut Model) -> Observed {
        let listed = (0..model.seats.len()).filter(|i| model.seats[*i].listed);
        let seats: Vec<usize> = listed.collect();
        self.pass = Some(Pass {
            asked: usize::MAX,
            ..Pass::default()
        });
        for seat in seats {
            let view = Self::answer(seat, model);
            self.heard(seat, view, model);
        }
        let mut pass = self.pass.take().unwrap_or_default();
        let servers = self.servers(&mut pass, model);
        Observed::new(Timestamp(model.now), self.formed.clone(), servers)
    }

    fn begin_in(&mut self, ms: u64, model: &mut Model) {
        self.life += 1;
        self.pass = None;
        self.movers.clear();
        model.after(ms, Event::Operator(Turn::Begin(self.life)));
    }

    /// Whether it has seen, since it was started, that a replica had a link to its primary.
    pub(crate) fn saw_link(&self, replica: NodeId, primary: NodeId) -> bool {
        self.memory.saw_link(replica, primary)
    }

    /// The operator dies, loses its memory, and is started again.
    pub(crate) fn crash(&mut self, model: &mut Model) {
        self.crashes += 1;
        self.memory = Memory::default();
        self.dead_since.clear();
        self.hint = false;
        let down = self.dice.below(5_000);
        model.oracle.operator_down_until = model.now + down;
        model
            .trace
            .note(model.now, format_args!("the operator crashes"));
        self.begin_in(down, model);
    }

    /// Takes its turn.
    pub(crate) fn turn(&mut self, turn: Turn, model: &mut Model) {
        let (Turn::Begin(life)
        | Turn::Ask(life, _)
        | Turn::Late(life, _)
        | Turn::Decide(life)
        | Turn::Step(life)
        | Turn::Move(life)) = turn;
        if life != self.life {
            return;
        }
        if self.trouble.crash > 0 && self.dice.below(10_000) < self.trouble.crash {
            self.crash(model);
            return;
        }
        match turn {
            Turn::Begin(_) => self.begin(model),
            Turn::Ask(_, seat) => self.ask(seat, model),
            Turn::Late(_, seat) => self.give_up(seat, model),
            Turn::Decide(_) => self.decide(model),
            Turn::Step(_) => self.step(model),
            Turn::Move(_) => self.move_on(model),
        }
    }

    fn begin(&mut self, model: &mut Model) {
        let mut pass = Pass::default();
        for seat in 0..model.seats.len() {
            if model.seats[seat].listed {
                pass.asked += 1;
                let ms = 1 + self.dice.below(4);
                model.after(ms, Event::Operator(Turn::Ask(self.life, seat)));
            }
        }
        if pass.asked == 0 {
            model.after(1, Event::Operator(Turn::Decide(self.life)));
        }
        self.pass = Some(pass);
    }

    fn ask(&mut self, seat: usize, model: &mut Model) {
        let deaf = self.trouble.deaf > 0 && self.dice.chance(self.trouble.deaf);
        let cut = model.operator_cut.contains(&seat);
        if deaf {
            model.oracle.deaf_until = model.now;
        }
        let s = &model.seats[seat];
        if cut || (s.running && (s.frozen || deaf)) {
            model.after(ASK_TIMEOUT_MS, Event::Operator(Turn::Late(self.life, seat)));
            return;
        }
        let view = Self::answer(seat, model);
        self.heard(seat, view, model);
    }

    /// What a server says to who asks, if it is reached.
    fn answer(seat: usize, model: &Model) -> Seen<NodeView> {
        let s = &model.seats[seat];
        if !s.running || model.refusing.contains(&seat) {
            Seen::Unknown(Why::Refused)
        } else if s.loads_until > model.now {
            Seen::Unknown(Why::Loading)
        } else if s.frozen || model.operator_cut.contains(&seat) {
            Seen::Unknown(Why::TimedOut)
        } else {
            model.view(seat).map_or_else(
                || Seen::Unknown(Why::Strange("no node".to_owned())),
                Seen::Known,
            )
        }
    }

    fn give_up(&mut self, seat: usize, model: &mut Model) {
        self.heard(seat, Seen::Unknown(Why::TimedOut), model);
    }

    fn heard(&mut self, seat: usize, view: Seen<NodeView>, model: &mut Model) {
        let now = model.now;
        let s = &model.seats[seat];
        // Of a process that is not ours there is only what its address says.
        let guest = self.desired.authority == Authority::Guest;
        let process = if guest || model.operator_cut.contains(&seat) {
            Process::Unknown
        } else if s.running {
            Process::Running
        } else {
            let proof = if s.started_ever {
                DeathProof::ChildReaped
            } else {
                DeathProof::NotStarted
            };
            let since = Timestamp(*self.dead_since.entry(seat).or_insert(now));
            Process::Dead(Death { proof, since })
        };
        if process == Process::Running {
            self.dead_since.remove(&seat);
        }
        let Some(pass) = self.pass.as_mut() else {
            return;
        };
        pass.heard.insert(seat, (process, view));
        if pass.heard.len() == pass.asked {
            model.after(0, Event::Operator(Turn::Decide(self.life)));
        }
    }

    fn servers(&mut self, pass: &mut Pass, model: &mut Model) -> Vec<Server> {
        let managed = self.desired.authority == Authority::Managed;
        model.oracle.managed = managed;
        let views = pass
            .heard
            .iter_mut()
            .filter_map(|(seat, (_, view))| match view {
                Seen::Known(view) => Some((*seat, view)),
                Seen::Unknown(_) => None,
            });
        model.count_keys(views);
        let heard = pass.heard.values().filter_map(|(_, view)| view.known());
        let witnesses = Witnesses::new(&self.desired, heard);
        let now = Timestamp(model.now);
        let mut servers = Vec::new();
        for (seat, (process, view)) in &pass.heard {
            let s = &model.seats[*seat];
            let address = Seen::Known(Model::address(s.at));
            let process = if managed {
                process.clone()
            } else {
                let unasked = Seen::Unknown(Why::NotAsked);
                let why = witnesses.why_not_dead(s.recorded, &address, &unasked);
                let (told, gone) = (Process::Unknown, why.is_none());
                let starter = Starter::Step;
                self.memory
                    .process(&s.name, &told, starter, view, gone, now)
            };
            let last_heard = self.memory.last_heard(&s.name, view);
            let disk = if managed && process.death().is_some() {
                Seen::Known(model.disk(*seat))
            } else {
                Seen::Unknown(Why::NotAsked)
            };
            servers.push(Server {
                name: s.name.clone(),
                address,
                place: s.place.clone(),
                process,
                starter: Starter::Step,
                leaving: false,
                view: view.clone(),
                last_heard,
                disk_row: disk.known().and_then(|_| model.disk_row(*seat)),
                disk,
                start_failure: None,
                recorded_id: s.recorded,
            });
        }
        servers
    }

    fn record(&self, o: &Observed, model: &mut Model) {
        for (name, node) in to_record(&self.desired, o) {
            if let Some(seat) = seat_of(&name, model) {
                model.seats[seat].recorded = Some(node);
            }
        }
    }

    /// Measures what the plan has to know of slots. False where nothing was learned.
    fn measure(&mut self, made: &Plan, observed: &mut Observed, model: &Model) -> bool {
        let mut learned = false;
        for (node, slots) in made.unmeasured() {
            if let Ok(seat) = crate::steps::reached(node, model) {
                let sizes = model.slot_sizes(seat, &slots);
                self.memory.measured(node, sizes, observed.at);
                learned = true;
            }
        }
        self.memory.recall_sizes(observed);
        learned
    }

    fn decide(&mut self, model: &mut Model) {
        let Some(mut pass) = self.pass.take() else {
            return;
        };
        self.passes += 1;
        let now = Timestamp(model.now);
        let servers = self.servers(&mut pass, model);
        let mut observed = match self.cache.take() {
            Some((old, formed, o)) if old == servers && formed == self.formed => {
                let mut o = o;
                o.at = now;
                self.cache = Some((old, formed, o.clone()));
                o
            }
            _ => {
                let o = Observed::new(now, self.formed.clone(), servers.iter().cloned());
                self.cache = Some((servers, self.formed.clone(), o.clone()));
                o
            }
        };
        self.memory.recall(&mut observed);
        model.oracle_told_dropped(&observed);
        let mut made = plan(&self.desired, &observed, &self.limits, now);
        if self.measure(&made, &mut observed, model) {
            made = plan(&self.desired, &observed, &self.limits, now);
        }
        let fatal: Vec<String> = check(&made, &self.desired, &observed)
            .iter()
            .filter(|v| v.severity == Severity::Fatal)
            .map(ToString::to_string)
            .collect();
        if !fatal.is_empty() {
            let text: Vec<String> = made.steps.iter().map(ToString::to_string).collect();
            model.accuse(format!("the linter refuses {text:?}: {fatal:?}"));
            self.last = Some((model.now, Plan::default()));
            self.begin_in(IDLE_MS, model);
            return;
        }
        self.record(&observed, model);
        pass.groups = groups(&made.steps);
        pass.observed = Some(observed);
        let (steps, waits) = (!made.steps.is_empty(), !made.waiting.is_empty());
        self.last = Some((model.now, made));
        if steps {
            self.pass = Some(pass);
            let ms = 1 + self.dice.below(3);
            model.after(ms, Event::Operator(Turn::Step(self.life)));
        } else {
            let ms = if std::mem::take(&mut self.hint) {
                2
            } else if waits {
                WAITING_MS
            } else {
                IDLE_MS
            };
            self.begin_in(ms, model);
        }
    }

    /// Takes one step; steps at one node in their order, nodes in any.
    fn step(&mut self, model: &mut Model) {
        let Some(mut pass) = self.pass.take() else {
            return;
        };
        pass.groups.retain(|g| !g.is_empty());
        if pass.groups.is_empty() && !self.movers.is_empty() {
            self.pass = Some(pass);
            model.after(MOVING_MS, Event::Operator(Turn::Step(self.life)));
            return;
        }
        if pass.groups.is_empty() {
            let ms = if std::mem::take(&mut self.hint) {
                2
            } else {
                BUSY_MS
            };
            self.begin_in(ms, model);
            return;
        }
        let i = self.dice.index(pass.groups.len());
        let step = pass.groups[i].pop_front().expect("it is not empty");
        if let Some(o) = &pass.observed
            && !self.take(&step, o, model)
        {
            pass.groups[i].clear();
        }
        self.pass = Some(pass);
        let ms = 1 + self.dice.below(3);
        model.after(ms, Event::Operator(Turn::Step(self.life)));
    }

    /// Takes a step; true when it is known to have been done.
    fn take(&mut self, step: &Step, o: &Observed, model: &mut Model) -> bool {
        let text = named(&step.to_string(), model);
        if !step.requires.iter().all(|p| holds(p, model)) {
            model.trace.note(model.now, format_args!("stale: {text}"));
            return false;
        }
        for kind in spreads(step).into_iter().chain([kind(&step.action)]) {
            *self.counts.entry(kind).or_insert(0) += 1;
        }
        model.trace.note(model.now, format_args!("step: {text}"));
        if let Some(lines) = &mut self.transcript {
            lines.push(text.clone());
        }
        model.judge(&step.action, o);
        self.memory.asked(&step.action, Timestamp(model.now));
        let claimed = model.claimed();
        let mut done = self.act(&step.action, model);
        if self.dice.chance(self.trouble.doubled) {
            self.doubled += 1;
            let again = self.act(&step.action, model);
            model
                .trace
                .note(model.now, format_args!("the command came twice: {again:?}"));
        }
        let lost = claimed.difference(&model.claimed());
        if !lost.is_empty() {
            model.accuse(format!("a step lost slots {lost}: {text}"));
        }
        if let Err(refusal) = &done {
            model
                .trace
                .note(model.now, format_args!("refused: {refusal}"));
        } else if self.dice.chance(self.trouble.lost_reply) {
            self.lost_replies += 1;
            done = Err("the reply was lost");
        }
        done.is_ok()
    }
}
