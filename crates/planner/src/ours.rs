//! Which servers belong to the cluster, which may join, and which are foreign.

use std::collections::{BTreeMap, BTreeSet};

use shardwright_topology::{
    NodeId, NodeView, Observed, Row, Seen, Server, ServerName, Source, Why,
};

use crate::returned::{Returned, returned, rival};
use crate::safety::why_not_retire;
use crate::surplus::surplus;
use crate::waiting::Foreign;
use crate::{Authority, Desired, Request};

/// How a server stands to the cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It belongs to the cluster.
    Member,
    /// It is blank, or was left behind by a forming that was broken off, and may join.
    MayJoin,
    /// It must not be touched.
    Foreign(Foreign),
    /// It was asked to leave, or is too many and goes, or is too many and may not join.
    Leaving,
    /// It was not heard, so nothing can be said.
    Unheard,
}

impl Standing {
    /// Whether the planner may act on it as on one of the cluster's own.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Member | Self::MayJoin)
    }
}

/// How every server stands to the cluster.
///
/// The cluster is the island (nodes that know one another) in which most of the recorded nodes are; where none is
/// recorded, the one that owns the most slots, but not a joiner's. A node belongs to it when it is in it, or when
/// the runtime recorded that it was. A blank node may join when we run it or someone asked for it.
pub fn standings(d: &Desired, o: &Observed) -> BTreeMap<ServerName, Standing> {
    let main = main_island(d, o);
    let surplus = surplus(d, o);
    let mut all: BTreeMap<_, _> = o
        .servers()
        .values()
        .map(|s| (s.name.clone(), standing(d, o, &main, s)))
        .collect();
    for server in surplus {
        let Some(view) = server.view.known() else {
            continue;
        };
        let retires = || main.contains(&view.id) && why_not_retire(d, o, server).is_empty();
        if is_fresh(view) || retires() {
            all.insert(server.name.clone(), Standing::Leaving);
        }
    }
    all
}

/// The nodes that a runtime is to record at their servers, where another or none is recorded yet.
///
/// A node is recorded once it belongs to the cluster by the word of a node that is recorded already or, where none
/// is there, by its own slots or peers; and once the node before it is forgotten: until then its record is the
/// proof that it is gone.
pub fn to_record(d: &Desired, o: &Observed) -> BTreeMap<ServerName, NodeId> {
    let standings = standings(d, o);
    let ours = |name: &ServerName| standings.get(name).is_some_and(Standing::is_ours);
    let recorded: Vec<&NodeView> = o
        .servers()
        .values()
        .filter_map(|s| s.view.known().filter(|v| s.recorded_id == Some(v.id)))
        .collect();
    // A recorded node that is only silent may yet say who belongs.
    let silent = |s: &Server| s.recorded_id.is_some() && s.view.known().is_none();
    let waits = recorded.is_empty() && o.servers().values().any(silent);
    let belongs = |id: NodeId| {
        if recorded.is_empty() {
            // By its own word: another, that is none of ours, may claim the same slots.
            let own = o.view_of(id).and_then(NodeView::own);
            let listed = o.member(id).is_some_and(|m| m.listed_by > 1);
            !waits && (listed || own.is_some_and(|own| !own.slots.is_empty()))
        } else {
            recorded.iter().any(|v| v.rows.get(id).is_some())
        }
    };
    let mut nodes = BTreeMap::new();
    for (name, server) in o.servers() {
        let Some(id) = server.view.known().map(|v| v.id) else {
            continue;
        };
        let before = server.recorded_id.filter(|before| *before != id);
        let forgotten = before.is_none_or(|before| o.member(before).is_none());
        let new = server.recorded_id != Some(id) && !o.has_duplicate(id);
        if new && forgotten && ours(name) && belongs(id) {
            nodes.insert(name.clone(), id);
        }
    }
    nodes
}

/// The same observation without what foreign servers say, when there are any that say something: their tables name
/// nodes and slots of another cluster, which must not be weighed with ours. The servers stay, unheard: a node that
/// speaks at one of them is not gone.
pub(crate) fn without_strangers(
    o: &Observed,
    standings: &BTreeMap<ServerName, Standing>,
) -> Option<Observed> {
    let stranger = |name: &ServerName| {
        let standing = standings.get(name);
        matches!(standing, Some(Standing::Foreign(what)) if *what != Foreign::NotAsked)
    };
    if !o.servers().keys().any(stranger) {
        return None;
    }
    let ours = o.servers().values().map(|s| {
        let mut server = s.clone();
        if stranger(&s.name) {
            server.view = Seen::Unknown(Why::Strange("it belongs to another cluster".to_owned()));
        }
        server
    });
    let mut clean = Observed::new(o.at, o.formed.clone(), ours);
    clean.attempts.clone_from(&o.attempts);
    clean.wins.clone_from(&o.wins);
    clean.votes.clone_from(&o.votes);
    clean.disbelieved.clone_from(&o.disbelieved);
    clean.steady_since = o.steady_since;
    clean.down_since.clone_from(&o.down_since);
    clean.starts.clone_from(&o.starts);
    clean.took_in.clone_from(&o.took_in);
    clean.slot_sizes.clone_from(&o.slot_sizes);
    clean.gave_all.clone_from(&o.gave_all);
    clean.former.clone_from(&o.former);
    clean.linked.clone_from(&o.linked);
    clean.held_back.clone_from(&o.held_back);
    clean.forgotten.clone_from(&o.forgotten);
    clean.outdated.clone_from(&o.outdated);
    for duplicate in o.duplicates() {
        clean.note_duplicate(duplicate.clone());
    }
    Some(clean)
}

/// True for a node that nothing ties to any cluster yet; greetings may be under way.
pub(crate) fn is_fresh(view: &NodeView) -> bool {
    view.rows.iter().all(|r| r.slots.is_empty())
        && view.peers().next().is_none()
        && view.server.keys == 0
}

fn main_island(d: &Desired, o: &Observed) -> BTreeSet<NodeId> {
    let recorded: BTreeSet<NodeId> = o
        .servers()
        .values()
        .filter(|s| d.authority == Authority::Managed && s.recorded_id.is_some())
        .filter_map(|s| {
            s.view
                .known()
                .map(|v| v.id)
                .filter(|id| s.recorded_id == Some(*id))
        })
        .collect();
    let joiner = match &d.request {
        Some(Request::Join { server, .. }) => o.servers().get(server).and_then(Server::id),
        _ => None,
    };
    // What the nodes claim for themselves: a stranger's greater epoch must not make our cluster look empty.
    let slots = |island: &BTreeSet<NodeId>| -> u32 {
        let own = island.iter().filter_map(|id| o.view_of(*id)?.own());
        own.map(|row| u32::from(row.slots.count())).sum()
    };
    let mut best = BTreeSet::new();
    let mut most = None;
    for island in islands(o) {
        let known = island.intersection(&recorded).count();
        let home = joiner.is_none_or(|id| !island.contains(&id));
        let size = (known, home, slots(&island), island.len());
        // A cluster that we formed has a record of its nodes: an island without any of them is not it.
        let recorded_none = known == 0 && d.authority == Authority::Managed && o.formed.is_some();
        if recorded_none {
            continue;
        }
        // A lone node without slots is no cluster.
        if Some(size) > most && (size.2 > 0 || size.3 > 1) {
            most = Some(size);
            best = island;
        }
    }
    best
}

/// The islands; at once when the first speaker knows all others, as in every healthy cluster.
fn islands(o: &Observed) -> Vec<BTreeSet<NodeId>> {
    let mut speakers = o.members().values().filter(|m| m.source == Source::Itself);
    let first = speakers.clone().next().and_then(|m| o.view_of(m.id));
    let known = |v: &NodeView, id| v.rows.get(id).is_some_and(Row::is_member);
    if first.is_some_and(|v| speakers.all(|m| known(v, m.id))) {
        let speakers = o.members().values().filter(|m| m.source == Source::Itself);
        return vec![speakers.map(|m| m.id).collect()];
    }
    o.islands()
}

fn standing(d: &Desired, o: &Observed, main: &BTreeSet<NodeId>, server: &Server) -> Standing {
    let Some(view) = server.view.known() else {
        return Standing::Unheard;
    };
    // While it owns slots it is healed as every other.
    let owns = o.member(view.id).is_some_and(|m| !m.slots.is_empty()) && !d.consent.lose_data;
    let leaving = matches!(&d.request, Some(Request::Leave { node }) if *node == view.id) && !owns;
    if leaving && (main.contains(&view.id) || is_fresh(view)) {
        return Standing::Leaving;
    }
    let recorded = d.authority == Authority::Managed && server.recorded_id == Some(view.id);
    if main.contains(&view.id) {
        let forming = d.authority == Authority::Managed && o.formed.is_none() && !recorded;
        let asked = matches!(d.request, Some(Request::Form { .. }));
        let why_not = (forming || asked).then(|| taken(o, main, view)).flatten();
        return why_not.map_or(Standing::Member, Standing::Foreign);
    }
    if is_fresh(view) {
        return if wanted(d, server) {
            Standing::MayJoin
        } else {
            Standing::Foreign(Foreign::NotAsked)
        };
    }
    if recorded && !overlaps(o, view) {
        return Standing::Member;
    }
    match returned(d, o, server) {
        Some(Returned::Free) => return Standing::MayJoin,
        Some(Returned::As(was)) => return Standing::Foreign(Foreign::Returned { was }),
        None => {}
    }
    match foreign(d, o, main, server, view) {
        Some(what) => Standing::Foreign(what),
        None => Standing::MayJoin,
    }
}

/// Whether we run this server, or someone asked for it by name.
fn wanted(d: &Desired, server: &Server) -> bool {
    match (&d.authority, &d.request) {
        (_, Some(Request::Form { order })) => order.contains(&server.name),
        (Authority::Managed, _) => true,
        (Authority::Guest, Some(Request::Join { server: asked, .. })) => *asked == server.name,
        (Authority::Guest, _) => false,
    }
}

/// Whether the node claims a slot that another owns by a better claim.
fn overlaps(o: &Observed, view: &NodeView) -> bool {
    view.own()
        .is_some_and(|own| own.slots.slots().any(|s| o.owner(s) != Some(view.id)))
}

/// Why a node cannot be part of a cluster that is being formed: it is part of another. A forming that was broken off
/// leaves nodes that know only one another, and hold no key before every slot has its owner.
fn taken(o: &Observed, main: &BTreeSet<NodeId>, view: &NodeView) -> Option<Foreign> {
    let nodes = view.peers().filter(|r| o.server_of(r.id).is_none()).count();
    if nodes > 0 {
        return Some(Foreign::KnowsOthers { nodes });
    }
    let whole = o.uncovered().is_empty() && main.len() > 1;
    let keys = view.server.keys;
    (keys > 0 && !whole).then_some(Foreign::HoldsKeys { keys })
}

/// Why a node that is neither blank nor of the main island does not belong, unless it is a leftover of a forming.
fn foreign(
    d: &Desired,
    o: &Observed,
    main: &BTreeSet<NodeId>,
    server: &Server,
    view: &NodeView,
) -> Option<Foreign> {
    let forming =
        d.authority == Authority::Managed || matches!(d.request, Some(Request::Form { .. }));
    // Greetings that were broken off leave nodes that know only one another.
    let beside = |id| forming && o.view_of(id).is_some();
    let strange = |id| !main.contains(&id) && !beside(id);
    let nodes = view.peers().filter(|r| strange(r.id)).count();
    if nodes > 0 {
        return Some(Foreign::KnowsOthers { nodes });
    }
    let keys = view.server.keys;
    if keys > 0 {
        let among = rival(o, server);
        return Some(match among.filter(|_| d.authority == Authority::Managed) {
            Some((other, theirs)) => Foreign::SameSlots {
                keys,
                rival: other.name.clone(),
                theirs: theirs.server.keys,
            },
            None => Foreign::HoldsKeys { keys },
        });
    }
    let slots = view.own().map(|own| own.slots.clone())?;
    (overlaps(o, view) || !forming).then_some(Foreign::OwnsSlots { slots })
}
