//! Replication: how a replica finds its primary, copies it, and loses it.

use crate::facts;
use crate::model::Model;
use crate::node::{At, Node};

impl Model {
    /// A replica's (and a primary's) replication timer.
    pub(crate) fn tend_copy(&mut self, seat: usize) {
        let now = self.now;
        let Some(node) = self.seats[seat].node.as_mut() else {
            return;
        };
        let Some(primary) = node.me().primary else {
            if now.saturating_sub(node.started) % facts::STREAM_PING_MS < facts::TICK_MS
                && !node.sending.is_empty()
            {
                self.stream(seat, None, false, 14);
            }
            return;
        };
        if node.copying.target == At::NONE {
            node.copying.target = node.peers.get(&primary).map_or(At::NONE, |p| p.at);
        }
        // Whoever listens there is copied: replication asks for no id.
        let at = node.copying.target;
        let source = self.listener(at).filter(|i| {
            self.seats[*i].node.as_ref().is_some_and(Node::is_primary)
                && !self.refusing.contains(i)
                && self.passes(*i, seat)
                && self.passes(seat, *i)
        });
        let Some(source) = source else {
            let node = self.seats[seat].node.as_mut().expect("it just ticked");
            if node.copying.up {
                node.copying.lost = Some(now);
            }
            if node.copying.up || node.copying.busy.is_some() {
                node.copying.up = false;
                node.copying.busy = None;
                node.copying.from = None;
                node.copying.link += 1;
            }
            return;
        };
        if !self.seats[source].frozen {
            self.copy_from(seat, source);
        }
    }

    fn copy_from(&mut self, seat: usize, source: usize) {
        let now = self.now;
        let from = self.seats[source].node.as_ref().expect("it listens");
        let (id, run, replid, replid2, end) =
            (from.id, from.run, from.replid, from.replid2, from.offset);
        let node = self.seats[seat].node.as_mut().expect("it just ticked");
        let same = node.copying.from == Some((id, run));
        if node.copying.up && same {
            node.copying.last_contact = now;
            return;
        }
        match node.copying.busy {
            Some((until, full)) if same => {
                if now >= until {
                    self.copied(seat, source, full);
                }
            }
            Some(_) | None => {
                let goes_on = (node.replid == replid && node.offset <= end)
                    || replid2.is_some_and(|(old, to)| node.replid == old && node.offset <= to);
                let range = if goes_on {
                    facts::RESUME_MS
                } else {
                    facts::FULL_COPY_MS
                };
                let slow = if goes_on { 0 } else { self.slow_copy_ms };
                let ms = self.draw_disk(range) + slow;
                let node = self.seats[seat].node.as_mut().expect("it just ticked");
                if std::mem::replace(&mut node.copying.up, false) {
                    node.copying.lost = Some(now);
                }
                node.copying.link += 1;
                node.copying.from = Some((id, run));
                node.copying.busy = Some((now + ms, !goes_on));
            }
        }
    }

    /// A copy is done: the replica has what its primary has, and nothing else.
    fn copied(&mut self, seat: usize, source: usize, full: bool) {
        let now = self.now;
        let from = self.seats[source].node.as_mut().expect("it listens");
        from.sending.insert(seat, now);
        let (data, offset, replid) = (from.data.clone(), from.offset.max(1), from.replid);
        let source_id = from.id;
        let libraries = from.libraries.clone();
        from.offset = offset;
        let node = self.seats[seat].node.as_mut().expect("it just ticked");
        let before = std::mem::replace(&mut node.data, data);
        let dropped: Vec<_> = before.difference(&node.data).copied().collect();
        let ours = std::mem::replace(&mut node.copying.ours, false);
        node.libraries = libraries;
        // A full copy continues nothing (`fact_a_former_primary_that_wrote_nothing_more_continues_its_stream`).
        if full {
            node.replid2 = None;
        } else if node.replid != replid {
            node.replid2 = Some((node.replid, node.offset));
        }
        node.offset = offset;
        node.replid = replid;
        node.copy_of = Some(source_id);
        node.copying.up = true;
        node.copying.busy = None;
        node.copying.last_contact = now;
        let id = node.id;
        if full || !dropped.is_empty() {
            let (name, from) = (self.name(id), self.seats[source].name.clone());
            let count = dropped.len();
            self.trace.note(
                now,
                format_args!("{name} has copied {from}, {count} keys of its own dropped"),
            );
        }
        self.oracle_replaced_by_copy(seat, source, &dropped, ours);
    }
}
