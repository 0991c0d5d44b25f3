//! What a person declares or asks for while things go wrong.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use shardwright_planner::{Desired, Manner, Request};
use shardwright_topology::{Place, ServerName, SlotRange, SlotSet};

use crate::faults::Ask;
use crate::history::History;

/// Shards and replicas of each.
type Shape = (u16, u16);

impl History {
    pub(crate) fn ask(&mut self, ask: Ask) {
        let node = |history: &Self, seat: usize| {
            let s = &history.model.seats[seat];
            s.node.as_ref().filter(|_| !s.foreign).map(|n| n.id)
        };
        let promote = |node, manner| Request::Promote { node, manner };
        let request = match ask {
            Ask::Switchover(seat) => node(self, seat).map(|n| promote(n, Manner::Switchover)),
            Ask::Force(seat) => node(self, seat).map(|n| promote(n, Manner::Force)),
            Ask::Takeover(seat) => node(self, seat).map(|n| promote(n, Manner::Takeover)),
            Ask::Leave(seat) => {
                let id = node(self, seat);
                self.model.oracle.leaving.extend(id);
                id.map(|node| Request::Leave { node })
            }
            Ask::Join => Some(self.join()),
            Ask::Assign(seat) => {
                let id = node(self, seat);
                let (first, many) = (self.edits.below(16_000), self.edits.within((1, 300)));
                let slots = SlotRange::new(first, first + many).map(SlotSet::from);
                id.zip(slots.ok())
                    .map(|goal| Request::Assign { goal: vec![goal] })
            }
            Ask::Nothing => None,
        };
        // Whoever forms a cluster of guests goes on with it when something else was asked for meanwhile.
        let now = &mut self.operator.desired.request;
        if matches!(now, Some(Request::Form { .. })) {
            self.interrupted.clone_from(now);
        }
        *now = request.or_else(|| self.interrupted.clone());
        self.operator.wake(&mut self.model);
    }

    /// A new blank server appears, and a person asks to let it join.
    fn join(&mut self) -> Request {
        let name = format!("j{}", self.joined);
        self.joined += 1;
        let persistence = self.setting.persistence;
        let seat = self.model.add_seat(&name, Place::default(), persistence);
        self.model.start(seat, false);
        Request::Join {
            server: ServerName(name),
            replica: self.dice.chance(80),
            of: None,
        }
    }

    /// A person declares another shape. Often it is taken back a while later, at the latest when all faults end, before
    /// or after it is reached: servers are too many then, whatever they have become meanwhile.
    pub(crate) fn edit(&mut self) {
        if !self.setting.managed || !self.edits.chance(40) {
            return;
        }
        let (shards, replicas) = (self.setting.shards, self.setting.replicas);
        let fewer = if shards > 3 { shards - 1 } else { shards + 1 };
        let shapes = [
            (shards + 1, replicas),
            (shards + 1, replicas),
            (shards + 2, replicas),
            (shards, replicas + 1),
            (fewer, replicas),
        ];
        let then = self.edits.pick(&shapes).expect("not empty");
        let reverts = then.1 != replicas || self.edits.chance(60);
        let span = self.last_fault.saturating_sub(self.model.now).max(2_000);
        let at = self.edits.below(span);
        let back = at + self.edits.within((10, 12_000));
        let from = self.model.now;
        self.until(from + at);
        if self.operator.formed.is_none() {
            return;
        }
        self.declare((shards, replicas), then);
        let kind = match then.0.cmp(&shards) {
            Ordering::Greater => "more shards",
            Ordering::Less => "fewer shards",
            Ordering::Equal => "more replicas",
        };
        *self.struck.entry(kind).or_insert(0) += 1;
        if reverts {
            self.until(from + back);
            self.declare(then, (shards, replicas));
            *self.struck.entry("edit reverted").or_insert(0) += 1;
        }
    }

    /// Declares a shape. What servers it needs come; those that it does not need go when the planner says so.
    fn declare(&mut self, before: Shape, now: Shape) {
        let servers = |shape: Shape| usize::from(shape.0 * (1 + shape.1));
        // A stateful set counts its pods: the last ones go.
        let ranked = servers(before).max(servers(now));
        for i in 0..ranked {
            let name = format!("n{i}");
            let rank = u32::try_from(i).expect("few servers");
            match self.model.seats.iter().position(|s| s.name.0 == name) {
                Some(seat) => {
                    self.model.seats[seat].place.leave_rank = rank;
                    if i < servers(now) {
                        self.model.relist(seat);
                    }
                }
                None => self.add_server(&name, rank),
            }
        }
        let too_many = |name: &ServerName| {
            let number = name
                .0
                .strip_prefix('n')
                .and_then(|n| n.parse::<usize>().ok());
            number.is_some_and(|n| n >= servers(now))
        };
        let seats = self.model.seats.iter().enumerate();
        let too_many: BTreeSet<usize> = seats
            .filter(|(_, s)| too_many(&s.name))
            .map(|(i, _)| i)
            .collect();
        self.model.oracle.too_many = too_many;
        (self.setting.shards, self.setting.replicas) = now;
        self.operator.desired.shape = Desired::managed(now.0, now.1).shape;
        let at = self.model.now;
        self.model.trace.note(
            at,
            format_args!("{} shards of {} replicas are declared", now.0, now.1),
        );
    }

    fn add_server(&mut self, name: &str, leave_rank: u32) {
        let host = self.edits.below(self.setting.hosts.max(1));
        let place = Place {
            leave_rank,
            ..self.setting.place(host)
        };
        let persistence = self.setting.persistence;
        let seat = self.model.add_seat(name, place, persistence);
        if self.edits.chance(80) {
            self.model.start(seat, false);
        }
    }
}
