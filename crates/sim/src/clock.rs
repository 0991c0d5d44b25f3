//! What a node does by itself, ten times a second: links, suspicion, elections, its own state.

use shardwright_topology::{NodeId, Role};

use crate::bus::{Context, Elected, Kind};
use crate::facts;
use crate::node::{At, Belief, Election, Elections, Node};

impl Node {
    /// One turn of its timer. `reaches` says whether something listens at an address and can be reached.
    pub(crate) fn tick(&mut self, cx: &mut Context<'_>, reaches: &dyn Fn(At) -> bool) {
        self.ticks += 1;
        let now = cx.now;
        self.banned.retain(|_, until| now < *until);
        self.send_greetings(cx);
        self.tend_links(cx, reaches);
        self.judge(cx);
        if self.manual.as_ref().is_some_and(|m| now > m.until) {
            self.manual = None;
        }
        if self.paused.is_some_and(|(until, _)| now > until) {
            self.paused = None;
        }
        self.drive_failover(cx);
        self.update_state(now);
    }

    fn tend_links(&mut self, cx: &mut Context<'_>, reaches: &dyn Fn(At) -> bool) {
        let now = cx.now;
        let mine = self.id;
        let mut ping: Vec<NodeId> = Vec::new();
        for (id, peer) in self.peers.iter_mut().filter(|(id, _)| **id != mine) {
            if peer.at == At::NONE {
                peer.link_up = false;
                peer.pinged.get_or_insert(now);
                continue;
            }
            let waiting = peer.pinged.map(|at| now.saturating_sub(at));
            if !reaches(peer.at) {
                // A dead process closes its links at once; a partition shows only by silence.
                peer.link_up = false;
                peer.pinged.get_or_insert(now);
            } else if !peer.link_up {
                peer.link_up = true;
                peer.pinged.get_or_insert(now);
                ping.push(*id);
            } else if waiting.is_some_and(|ms| ms > facts::PING_AGE_MS) {
                peer.link_up = false;
            } else if waiting.is_none() && now.saturating_sub(peer.heard) > facts::PING_AGE_MS {
                peer.pinged = Some(now);
                ping.push(*id);
            }
        }
        if self.ticks.is_multiple_of(10) {
            ping.extend(self.oldest_of_five(cx));
        }
        for id in ping {
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.pinged.get_or_insert(now);
            }
            self.tell(id, Kind::Ping, cx);
        }
    }

    /// Once a second the one of five random nodes that was heard longest ago is pinged.
    fn oldest_of_five(&self, cx: &mut Context<'_>) -> Option<NodeId> {
        let ids: Vec<NodeId> = self
            .peers
            .iter()
            .filter(|(id, p)| **id != self.id && p.link_up && p.pinged.is_none())
            .map(|(id, _)| *id)
            .collect();
        (0..5)
            .filter_map(|_| cx.dice.pick(&ids))
            .min_by_key(|id| (self.peers[id].heard, *id))
    }

    /// Suspects the silent, and declares those failed that a majority suspects.
    fn judge(&mut self, cx: &mut Context<'_>) {
        let now = cx.now;
        let quorum = self.quorum();
        let own_vote = usize::from(self.me().votes());
        let mine = self.id;
        let voters: Vec<NodeId> = self
            .peers
            .iter()
            .filter(|(_, p)| p.votes())
            .map(|(id, _)| *id)
            .collect();
        let mut failed = Vec::new();
        for (id, peer) in self.peers.iter_mut().filter(|(id, _)| **id != mine) {
            let silent = peer
                .pinged
                .is_some_and(|at| now.saturating_sub(at) > facts::NODE_TIMEOUT_MS);
            if silent && peer.belief == Belief::Fine {
                peer.belief = Belief::Suspected;
            }
            if peer.belief != Belief::Suspected {
                continue;
            }
            peer.reports
                .retain(|_, at| now.saturating_sub(*at) <= facts::REPORT_VALID_MS);
            let reports = peer.reports.keys().filter(|v| voters.contains(v)).count();
            if reports + own_vote >= quorum {
                peer.belief = Belief::Failed { since: now };
                failed.push(*id);
            }
        }
        for id in failed {
            self.tell_all(&Kind::Fail(id), cx);
        }
    }

    /// A replica's election: by itself when its primary failed, or when it was asked to.
    pub(crate) fn drive_failover(&mut self, cx: &mut Context<'_>) {
        let now = cx.now;
        let Some(primary) = self.me().primary else {
            return;
        };
        let Some(peer) = self.peers.get(&primary) else {
            return;
        };
        let manual = self
            .manual
            .as_ref()
            .is_some_and(|m| m.force || m.target.is_some_and(|t| self.offset >= t));
        let fresh = self.copying.silent_ms(now) <= facts::DATA_AGE_MAX_MS;
        let failed = peer.failed() && fresh && self.elections == Elections::Stands;
        if self.me().role == Role::Primary || peer.slots.is_empty() || !(failed || manual) {
            return;
        }
        let rank = self
            .peers
            .values()
            .filter(|p| p.primary == Some(primary) && p.offset > self.offset)
            .count();
        let due = self.election.as_ref().is_none_or(|e| {
            now > e.at + facts::ELECTION_RETRY_MS
                || (e.sent
                    && manual
                    && self.profile.votes_again()
                    && e.votes.is_empty()
                    && now > e.at + facts::TICK_MS)
        });
        if due {
            let delay = if manual {
                0
            } else {
                facts::ELECTION_DELAY_MS
                    + cx.dice.below(facts::ELECTION_DELAY_MS)
                    + rank as u64 * facts::RANK_DELAY_MS
            };
            self.election = Some(Election {
                at: now + delay,
                sent: false,
                epoch: 0,
                votes: std::collections::BTreeSet::new(),
            });
        }
        let (quorum, current) = (self.quorum(), self.current_epoch);
        let Some(election) = self.election.as_mut() else {
            return;
        };
        if now < election.at || now > election.at + facts::VOTE_WAIT_MS {
            return;
        }
        if !election.sent {
            election.sent = true;
            election.epoch = current + 1;
            self.current_epoch = current + 1;
            self.tell_all(&Kind::VoteRequest { force: manual }, cx);
        } else if election.votes.len() >= quorum {
            // Redis keeps the votes of an election it won: they may be old ones, with an old epoch.
            let epoch = election.epoch.max(self.me().epoch);
            let stream = cx.stream();
            self.me_mut().epoch = epoch;
            self.replace_primary(stream);
            cx.elected = if manual {
                Elected::Asked
            } else {
                Elected::ByItself
            };
            self.tell_all(&Kind::Pong, cx);
        }
    }

    /// Whether it serves (`cluster_state`).
    pub(crate) fn update_state(&mut self, now: u64) {
        let primary = self.is_primary();
        if primary && !self.state_ok && now.saturating_sub(self.started) < facts::WRITABLE_DELAY_MS
        {
            return;
        }
        let reachable = self
            .peers
            .iter()
            .filter(|(id, p)| p.votes() && (p.belief == Belief::Fine || **id == self.id))
            .count();
        let majority = reachable >= self.quorum();
        if !majority {
            self.minority = Some(now);
        }
        let ok = self.covered() && majority;
        if ok && !self.state_ok && primary {
            let (least, most) = facts::REJOIN_DELAY_MS;
            let wait = facts::NODE_TIMEOUT_MS.clamp(least, most);
            if self
                .minority
                .is_some_and(|at| now.saturating_sub(at) < wait)
            {
                return;
            }
        }
        self.state_ok = ok;
    }
}
