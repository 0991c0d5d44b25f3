//! What former primaries wrote that their successors never had: found by the replication streams of both.
//!
//! A primary that was promoted says which stream it continues, and up to which offset it had that ([`Stream::before`]). The
//! former primary shows the end of the same stream ([`ServerInfo::stream_end`]) from when it answers again until its full
//! copy of the successor is done. What lies between the two is at the former primary alone, and its copy drops it. One
//! that had nothing alone continues the stream without a full copy, and says so.
//!
//! [`ServerInfo::stream_end`]: shardwright_topology::ServerInfo::stream_end

use std::collections::{BTreeMap, BTreeSet};

use shardwright_topology::{
    DroppedBytes, DroppedWrites, NodeId, NodeView, Observed, Replication, Role, SlotSet, Stream,
    Timestamp, writes_max,
};

/// For how long it is reported what was dropped, in milliseconds.
const REPORTED_MS: u64 = 600_000;
/// For how long a former primary is remembered whose successor was not found, or that nobody lists any more, in
/// milliseconds: both are seen in one look, or in two that come right after one another.
const UNEXPLAINED_MS: u64 = 60_000;
/// How long after it was asked for a switchover explains that a former primary took a full copy, in milliseconds: in a
/// switchover both have the whole stream.
const SWITCHOVER_MS: u64 = 30_000;

/// One node in one run of its process, since it last answered as the owner of slots.
#[derive(Debug)]
struct Served {
    run: String,
    /// The id of the stream that it wrote.
    stream: String,
    slots: SlotSet,
    /// Its replicas, by its own table or their own word: either may learn of the other late.
    replicas: BTreeSet<NodeId>,
    /// How far its stream was when it was seen last, in bytes.
    end: u64,
    /// Whether it writes nothing more to that stream: it is a replica.
    is_at_end: bool,
    /// When it last answered.
    answered: Timestamp,
    unreachable_ms: u64,
    /// When it last owned slots, or was listed as a node whose successor is known.
    last: Timestamp,
    /// Which replica was asked to take its place with its help, and when.
    switchover: Option<(NodeId, Timestamp)>,
    /// Who took its place, and how far that one had its stream, in bytes.
    successor: Option<(NodeId, u64)>,
}

/// The primaries of which it may turn out that they wrote what their successors never had, and what was found.
#[derive(Debug, Default)]
pub(crate) struct FormerPrimaries {
    served: BTreeMap<NodeId, Served>,
    found: BTreeMap<NodeId, DroppedWrites>,
}

impl FormerPrimaries {
    /// Remembers that a replica was asked to take its primary's place, with that one's help.
    pub(crate) fn switched(&mut self, primary: NodeId, replica: NodeId, at: Timestamp) {
        if let Some(served) = self.served.get_mut(&primary) {
            served.switchover = Some((replica, at));
        }
    }

    /// Takes note of what an observation shows, and adds to it what was found lately.
    pub(crate) fn recall(&mut self, o: &mut Observed) {
        self.note(o);
        self.found
            .retain(|_, dropped| o.at.since_ms(dropped.at) < REPORTED_MS);
        o.dropped_writes.clone_from(&self.found);
    }

    fn note(&mut self, o: &Observed) {
        for (_, view) in o.views().filter(|(_, v)| !o.has_duplicate(v.id)) {
            self.note_primary(o, view);
            self.note_end(o, view);
        }
        for (id, served) in &mut self.served {
            let member = o.member(*id);
            let owns = member.is_some_and(|m| !m.slots.is_empty());
            if served.successor.is_none() && !owns {
                served.successor = successor(o, *id, served);
            }
            if owns || member.is_some() && served.successor.is_some() {
                served.last = o.at;
            }
        }
        for (_, view) in o.views().filter(|(_, v)| !o.has_duplicate(v.id)) {
            self.judge(o, view);
        }
        self.served
            .retain(|_, served| o.at.since_ms(served.last) < UNEXPLAINED_MS);
    }

    /// Remembers a primary that owns slots; or that says so, where nothing is remembered of its run.
    fn note_primary(&mut self, o: &Observed, view: &NodeView) {
        let (Some(own), Some(stream)) = (view.own(), &view.server.stream) else {
            return;
        };
        let Replication::Primary { offset: end, .. } = view.server.replication else {
            return;
        };
        if own.role != Role::Primary || own.slots.is_empty() {
            return;
        }
        let owns = o.member(view.id).is_some_and(|m| !m.slots.is_empty());
        let before = self.served.get(&view.id);
        if !owns && before.is_some_and(|b| b.run == view.server.run_id && b.stream == stream.id) {
            return;
        }
        let switchover = before.and_then(|b| b.switchover);
        let listed = view.peers().filter(|row| row.primary == Some(view.id));
        let follow = o.replicas_of(view.id).map(|member| member.id);
        let served = Served {
            run: view.server.run_id.clone(),
            stream: stream.id.clone(),
            slots: own.slots.clone(),
            replicas: listed.map(|row| row.id).chain(follow).collect(),
            end,
            is_at_end: false,
            answered: o.at,
            unreachable_ms: 0,
            last: o.at,
            switchover,
            successor: None,
        };
        self.served.insert(view.id, served);
    }

    /// How far the stream of one that answers is by now. Another run of its process has lost what only the last one had:
    /// that is no matter of two primaries.
    fn note_end(&mut self, o: &Observed, view: &NodeView) {
        let Some(served) = self.served.get_mut(&view.id) else {
            return;
        };
        if served.run != view.server.run_id {
            self.served.remove(&view.id);
            return;
        }
        let gap_ms = o.at.since_ms(served.answered);
        served.unreachable_ms = served.unreachable_ms.max(gap_ms);
        served.answered = o.at;
        let stream = view.server.stream.as_ref();
        let same = stream.is_some_and(|stream| stream.id == served.stream);
        if let Some(end) = view.server.stream_end.filter(|_| same) {
            served.end = served.end.max(end);
            served.is_at_end |= is_replica(view);
        }
    }

    /// Once a former primary is a replica it is known what it had alone, or that nobody will know.
    fn judge(&mut self, o: &Observed, view: &NodeView) {
        let Some(served) = self.served.get(&view.id).filter(|_| is_replica(view)) else {
            return;
        };
        let Some((successor, until)) = served.successor else {
            return;
        };
        let alone = served.end.saturating_sub(until);
        let bytes = match &view.server.stream {
            _ if served.is_at_end => DroppedBytes::All(alone),
            Some(stream) if stream.id == served.stream => return,
            // It went on where its own stream ended: its successor had all of it.
            Some(stream) if continues(stream, &served.stream) => DroppedBytes::All(0),
            Some(_) => DroppedBytes::Unknown { seen: alone },
            None => return,
        };
        let asked = served
            .switchover
            .is_some_and(|(replica, at)| replica == successor && o.at.since_ms(at) < SWITCHOVER_MS);
        let reported = match bytes {
            DroppedBytes::All(bytes) => writes_max(bytes) > 0,
            DroppedBytes::Unknown { .. } => !asked,
        };
        if reported {
            let dropped = DroppedWrites {
                node: view.id,
                successor,
                bytes,
                unreachable_ms: served.unreachable_ms,
                at: o.at,
            };
            self.found.insert(view.id, dropped);
        }
        self.served.remove(&view.id);
    }
}

/// Who took a primary's place, and how far that one had its stream: one of its replicas that has slots of it, and continues
/// that stream as a primary. One that was reset continues it too, and has none of its slots.
fn successor(o: &Observed, node: NodeId, served: &Served) -> Option<(NodeId, u64)> {
    let continued = |view: &NodeView| {
        let before = view.server.stream.as_ref()?.before.as_ref();
        before.filter(|(id, _)| *id == served.stream).map(|b| b.1)
    };
    let took_over = |view: &&NodeView| {
        let own = view.own().filter(|own| own.role == Role::Primary);
        let has = own.is_some_and(|own| !own.slots.intersection(&served.slots).is_empty());
        has && !is_replica(view) && served.replicas.contains(&view.id) && view.id != node
    };
    let mut views = o.views().map(|(_, view)| view).filter(took_over);
    views.find_map(|view| Some((view.id, continued(view)?)))
}

fn is_replica(view: &NodeView) -> bool {
    matches!(view.server.replication, Replication::Replica { .. })
}

/// Whether a stream came after the one with this id, without a full copy between.
fn continues(stream: &Stream, id: &str) -> bool {
    stream
        .before
        .as_ref()
        .is_some_and(|(before, _)| before == id)
}
