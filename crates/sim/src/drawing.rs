//! What a seed draws: the setting of its history, and its faults.

use std::collections::BTreeSet;

use shardwright_planner::{Desired, FailoverPolicy, Request};
use shardwright_topology::{Place, ServerName};

use crate::dice::Dice;
use crate::facts::Profile;
use crate::faults::{Ask, Direction, Fault};
use crate::history::History;
use crate::model::Persistence;
use crate::operator::Trouble;

/// Volumes are given up sooner than anyone would want, so that it happens while things go wrong.
const RECREATE_AFTER_MS: u64 = 1_500;

/// What a history is like, drawn from its seed.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is an independent toss")]
pub(crate) struct Setting {
    pub(crate) shards: u16,
    pub(crate) replicas: u16,
    pub(crate) managed: bool,
    /// Whether a supervisor starts dead servers by itself, as a kubelet does.
    pub(crate) supervised: bool,
    pub(crate) keep_every_write: bool,
    pub(crate) persistence: Persistence,
    pub(crate) profile: Profile,
    pub(crate) hosts: u64,
    pub(crate) write_every_ms: u64,
    /// Whether servers are made anew whose volume is on a host that is away for long.
    pub(crate) gives_up_volumes: bool,
    pub(crate) faults_from_start: bool,
    pub(crate) stranger_stays: bool,
}

impl Setting {
    /// The place of a host, by its number. Where there are four hosts, there are two zones.
    pub(crate) fn place(&self, host: u64) -> Place {
        Place {
            host: (self.hosts > 1).then(|| format!("host{host}")),
            zone: (self.hosts == 4).then(|| format!("zone{}", host % 2)),
            ..Place::default()
        }
    }

    pub(crate) fn draw(dice: &mut Dice, hosts: &mut Dice) -> Self {
        let shapes = [
            (3, 0),
            (3, 1),
            (3, 1),
            (3, 1),
            (3, 2),
            (3, 2),
            (4, 1),
            (5, 1),
        ];
        let (shards, replicas) = dice.pick(&shapes).expect("not empty");
        let persistence = [
            Persistence::Always,
            Persistence::EverySecond,
            Persistence::EverySecond,
            Persistence::Off,
        ];
        Self {
            shards,
            replicas,
            managed: dice.chance(80),
            supervised: dice.chance(30),
            keep_every_write: dice.chance(30),
            persistence: dice.pick(&persistence).expect("not empty"),
            profile: if dice.chance(60) {
                Profile::Redis70
            } else {
                Profile::Valkey9
            },
            hosts: dice.below(5),
            write_every_ms: dice.within((40, 250)),
            gives_up_volumes: hosts.chance(60),
            faults_from_start: dice.chance(15),
            stranger_stays: dice.chance(50),
        }
    }

    pub(crate) fn desired(&self) -> Desired {
        let policy = if self.keep_every_write {
            FailoverPolicy::KeepEveryWrite
        } else {
            FailoverPolicy::Availability
        };
        let desired = if self.managed {
            Desired::managed(self.shards, self.replicas)
        } else {
            Desired::guest()
        };
        let gives_up = self.managed && self.gives_up_volumes;
        Desired {
            failover: policy,
            recreate_after_ms: gives_up.then_some(RECREATE_AFTER_MS),
            ..desired
        }
    }

    /// How a cluster of guests is formed: by request, once.
    pub(crate) fn forming(&self, names: Vec<ServerName>) -> Desired {
        if self.managed {
            return self.desired();
        }
        Desired {
            shape: Desired::managed(self.shards, self.replicas).shape,
            ..self.desired().with(Request::Form { order: names })
        }
    }
}

impl History {
    /// What goes wrong with the operator itself.
    pub(crate) fn draw_trouble(&mut self) -> Trouble {
        if self.dice.chance(40) {
            return Trouble::default();
        }
        Trouble {
            lost_reply: self.dice.below(15),
            doubled: self.dice.below(15),
            crash: self.dice.below(100),
            deaf: self.dice.below(6),
        }
    }

    /// Draws the faults, and when they strike.
    pub(crate) fn draw_faults(&mut self) {
        let count = 1 + self.dice.below(7);
        let span = self.dice.within((300, 25_000));
        for _ in 0..count {
            let at = self.dice.below(span);
            self.draw_fault(at);
        }
        if self.setting.hosts > 1 {
            self.draw_faults_of_hosts(span);
        }
        // Of servers of ours more is known than what their address says.
        if !self.setting.managed && self.hosts.chance(50) {
            let seat = self.hosts.index(self.model.seats.len());
            let at = self.hosts.below(span);
            let until = at + self.hosts.within((1_000, 15_000));
            self.plan_fault(at, Fault::Refuse(seat));
            self.plan_fault(until, Fault::Listen(seat));
        }
        self.draw_limits(span);
        self.draw_copies(span);
        self.draw_tables(span);
        self.draw_copied_disks(span);
    }

    /// Servers that run for a while on a copy of another's disk.
    fn draw_copied_disks(&mut self, span: u64) {
        if self.disks.chance(10) {
            let seats = self.model.seats.len();
            let [of, at] = [0; 2].map(|_| self.disks.index(seats));
            let from = self.disks.below(span);
            let until = from + self.disks.within((1_000, 15_000));
            self.plan_fault(from, Fault::CopyDisk { of, at });
            self.plan_fault(until, Fault::StrangerLeaves(at));
        }
    }

    /// Servers that find no table of nodes when they start again, and have their data still.
    fn draw_tables(&mut self, span: u64) {
        if self.tables.chance(12) {
            let seat = self.tables.index(self.model.seats.len());
            let at = self.tables.below(span);
            self.plan_fault(at, Fault::LoseTable(seat));
        }
    }

    /// Copies that are broken off, and primaries whose new address their replicas learn from others.
    fn draw_copies(&mut self, span: u64) {
        if self.copies.chance(20) {
            let at = self.copies.below(span);
            let lasts = self.copies.within((2_000, 15_000));
            self.plan_fault(at, Fault::SlowCopy(lasts));
            for _ in 0..3 {
                let at = at + self.copies.below(lasts);
                self.plan_fault(at, Fault::KillCopied);
            }
            self.plan_fault(at + lasts, Fault::SlowCopy(0));
        }
        if self.copies.chance(15) {
            let seat = self.copies.index(self.model.seats.len());
            let at = self.copies.below(span);
            let lasts = self.copies.within((6_000, 15_000));
            self.plan_fault(at, Fault::MoveUnseen(seat));
            self.plan_fault(at + lasts, Fault::MendNet);
        }
    }

    /// Servers that are nearly full for a while: drawn apart, so that the rest of a seed's history stays what it is.
    fn draw_limits(&mut self, span: u64) {
        if !self.room.chance(15) {
            return;
        }
        for seat in 0..self.model.seats.len() {
            if self.room.chance(50) {
                let at = self.room.below(span);
                let lasts = self.room.within((1_000, 15_000));
                let more = self.room.below(40);
                self.plan_fault(at, Fault::Limit(seat, more));
                self.plan_fault(at + lasts, Fault::Unlimit(seat));
            }
        }
    }

    /// Servers that come back elsewhere, and hosts that are away for a while.
    fn draw_faults_of_hosts(&mut self, span: u64) {
        let (count, seats) = (self.hosts.below(4), self.model.seats.len());
        for _ in 0..count {
            let at = self.hosts.below(span);
            let host = self.hosts.below(self.setting.hosts);
            let place = self.setting.place(host);
            if !self.setting.managed || self.hosts.chance(60) {
                let seat = self.hosts.index(seats);
                self.plan_fault(at, Fault::Rehost(seat, place));
                continue;
            }
            let back = at + self.hosts.within((200, 15_000));
            let host = place.host.unwrap_or_default();
            let power = self.hosts.chance(50);
            self.plan_fault(at, Fault::HostAway(host.clone(), power));
            self.plan_fault(back, Fault::HostBack(host));
            self.plan_fault(back, Fault::MendNet);
        }
    }

    fn seat(&mut self) -> usize {
        let len = self.model.seats.len();
        self.dice.index(len)
    }

    fn some_seats(&mut self) -> Vec<usize> {
        let percent = self.dice.within((20, 90));
        let all: Vec<usize> = (0..self.model.seats.len()).collect();
        let mut some: Vec<usize> = all
            .iter()
            .copied()
            .filter(|_| self.dice.chance(percent))
            .collect();
        if some.is_empty() || self.dice.chance(25) {
            some = all;
        }
        some
    }

    fn draw_fault(&mut self, at: u64) {
        let seat = self.seat();
        let lasts = self.dice.within((200, 15_000));
        match self.dice.below(26) {
            0..=4 => self.plan_fault(at, Fault::Kill(vec![seat])),
            5 => self.plan_fault(at, Fault::Tear(seat)),
            6 | 7 => {
                let seats = self.some_seats();
                self.plan_fault(at, Fault::Kill(seats));
            }
            8 => self.plan_fault(at, Fault::Move(vec![seat])),
            9 => {
                let seats = self.some_seats();
                self.plan_fault(at, Fault::Move(seats));
            }
            10 => {
                let other = self.seat();
                if other != seat {
                    self.plan_fault(at, Fault::Swap(seat, other));
                }
            }
            11 => self.plan_fault(at, Fault::Wipe(vec![seat])),
            12 if self.dice.chance(20) => {
                let seats = self.some_seats();
                self.plan_fault(at, Fault::Wipe(seats));
            }
            12 | 13 => {
                let ways = [Direction::In, Direction::Out, Direction::Both];
                let way = self.dice.pick(&ways).expect("not empty");
                self.plan_fault(at, Fault::Isolate(seat, way));
                self.plan_fault(at + lasts, Fault::MendNet);
            }
            14 => {
                let group = self.some_seats().into_iter().collect();
                self.plan_fault(at, Fault::Split(group));
                self.plan_fault(at + lasts, Fault::MendNet);
            }
            15 => {
                let group: BTreeSet<usize> = self.some_seats().into_iter().collect();
                self.plan_fault(at, Fault::OperatorCut(group));
                self.plan_fault(at + lasts, Fault::OperatorMend);
            }
            16 | 17 => {
                self.plan_fault(at, Fault::Freeze(seat));
                self.plan_fault(at + lasts, Fault::Thaw(seat));
            }
            18 => {
                let ms = self.dice.within((50, 800));
                self.plan_fault(at, Fault::SlowBus(ms));
                self.plan_fault(at + lasts, Fault::SlowBus(0));
            }
            19 => {
                let ms = self.dice.within((50, 2_000));
                self.plan_fault(at, Fault::SlowStream(ms));
                self.plan_fault(at + lasts, Fault::SlowStream(0));
            }
            20 => self.plan_fault(at, Fault::OperatorCrash),
            21 if self.dice.chance(40) => {
                self.plan_fault(at, Fault::Kill(vec![seat]));
                // Greetings that are under way to the old address end first.
                self.plan_fault(at + 10 + lasts, Fault::Stranger(seat));
            }
            22 => {
                let group = self.some_seats().into_iter().collect();
                self.plan_fault(at, Fault::Estrange(group));
            }
            23 | 24 => {
                let slot = u16::try_from(self.dice.below(16_384)).expect("below 16384");
                let moved = [0, 2, 4][self.dice.index(3)];
                // By the slot's own number, so that every other draw of a seed stays as it is.
                let fault = if slot % 3 == 0 {
                    Fault::StrayKeys(slot, moved)
                } else {
                    Fault::OpenSlot(slot, moved)
                };
                self.plan_fault(at, fault);
            }
            _ => self.draw_request(at, seat),
        }
    }

    fn draw_request(&mut self, at: u64, seat: usize) {
        let ask = match self.dice.below(8) {
            0..=2 => Ask::Switchover(seat),
            3 => Ask::Force(seat),
            4 => Ask::Takeover(seat),
            5 | 6 => Ask::Assign(seat),
            _ if !self.setting.managed => {
                if self.dice.chance(50) {
                    Ask::Leave(seat)
                } else {
                    Ask::Join
                }
            }
            _ => Ask::Switchover(seat),
        };
        self.plan_fault(at, Fault::Ask(ask));
        // A person looks whether it was done, and goes.
        self.plan_fault(at + 8_000, Fault::Ask(Ask::Nothing));
    }
}
