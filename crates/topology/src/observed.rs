//! The merge of every node's view into one observation that keeps who believes what.

use std::collections::{BTreeMap, BTreeSet};

use crate::owners::Owners;
use crate::view::Health;
use crate::{
    Address, Attempt, ConfigEpoch, DuplicateId, Flags, Formed, Host, Instance, NodeId, NodeView,
    OutdatedStart, Process, Role, Row, Server, ServerName, Slot, SlotSet, SlotSize, Starts,
    Timestamp,
};

/// Whose word a [`Member`] rests on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Source {
    /// The node's own.
    Itself,
    /// Other nodes': the node itself was not heard.
    Others,
}

/// One node, as the merge of all views has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// The node.
    pub id: NodeId,
    /// The server it lives on, if that is known.
    pub server: Option<ServerName>,
    /// Where it is reached: its server's address, else what the others believe.
    pub address: Address,
    /// Its role.
    pub role: Role,
    /// Its primary, if it is a replica.
    pub primary: Option<NodeId>,
    /// Its config epoch.
    pub epoch: ConfigEpoch,
    /// The slots it owns, after the claims of all were weighed.
    pub slots: SlotSet,
    /// Whose word this is.
    pub source: Source,
    /// How many views list it, its own included.
    pub listed_by: u32,
    /// How many views hold it to have failed (`FAIL`).
    pub failed_by: u32,
}

/// What a view holds of a live node against the merge.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Dissent {
    /// The node is not in its table.
    NotListed,
    /// It was met, but is not yet known by name.
    Handshake,
    /// It is listed at another address, or at none.
    Address,
    /// It is listed with another role, or as a replica of another primary.
    Role,
    /// It is listed with other slots.
    Slots,
    /// It is held to have failed, though it speaks.
    Health,
    /// The bus link to it is down.
    Link,
}

/// One view's dissent about one node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Disagreement {
    /// Whose view.
    pub speaker: NodeId,
    /// About which node.
    pub about: NodeId,
    /// In what.
    pub dissent: Dissent,
}

/// Everything that was seen in one round, merged.
#[derive(Clone, Debug)]
pub struct Observed {
    /// When it was seen.
    pub at: Timestamp,
    /// The stored fact that this cluster was formed, if it was.
    pub formed: Option<Formed>,
    /// What was asked of nodes lately.
    pub attempts: Vec<Attempt>,
    /// When nodes became primaries, of those whose process was not restarted since. Kept in memory only.
    pub wins: BTreeMap<NodeId, Timestamp>,
    /// When a vote about each dead primary was last asked for. Kept in memory only.
    pub votes: BTreeMap<NodeId, Timestamp>,
    /// Primaries whose replicas somebody holds to be primaries still, by an epoch greater than theirs, and since when.
    /// Kept in memory only.
    pub disbelieved: BTreeMap<NodeId, Timestamp>,
    /// Since when everyone is in sync, and in the same run, role and place as now, as far as is known. `None` while that
    /// is not so, or nobody remembers. Kept in memory only.
    pub steady_since: Option<Timestamp>,
    /// When each server's process was first found dead since the server was last heard: starts that fail do not change
    /// it. Kept in memory only.
    pub down_since: BTreeMap<ServerName, Timestamp>,
    /// How each server that was not heard since was told to start. Kept in memory only.
    pub starts: BTreeMap<ServerName, Starts>,
    /// When each node was last told to take slots or keys in. Kept in memory only.
    pub took_in: BTreeMap<NodeId, Timestamp>,
    /// What nodes hold of slots, as far as it was measured lately. Kept in memory only.
    pub slot_sizes: BTreeMap<NodeId, BTreeMap<Slot, SlotSize>>,
    /// Since when nodes own no slots that were seen to own some. Kept in memory only.
    pub gave_all: BTreeMap<NodeId, Timestamp>,
    /// What silent nodes said last, at whose servers other nodes speak by now. Kept in memory only.
    pub former: BTreeMap<NodeId, NodeView>,
    /// The primary to which each replica was seen with its link up, in the run that it is in. Kept in memory only.
    pub linked: BTreeMap<NodeId, NodeId>,
    /// Replicas that were told not to take their primary's place by themselves, and were not yet told that they may. Kept
    /// in memory only.
    pub held_back: BTreeSet<NodeId>,
    /// Nodes that others had forgotten when this cluster was first looked at, although they knew those, and when they
    /// last had. Kept in memory only.
    pub forgotten: BTreeMap<NodeId, Timestamp>,
    /// Servers that do not start as they were made, and would be made otherwise by now, as the runtime tells.
    pub outdated: BTreeMap<ServerName, OutdatedStart>,
    servers: BTreeMap<ServerName, Server>,
    members: BTreeMap<NodeId, Member>,
    owners: Owners,
    duplicates: Vec<DuplicateId>,
    disagreements: Vec<Disagreement>,
}

impl Observed {
    /// Merges what the servers said. Of two servers with one name the later counts.
    pub fn new(
        at: Timestamp,
        formed: Option<Formed>,
        servers: impl IntoIterator<Item = Server>,
    ) -> Self {
        let servers: BTreeMap<_, _> = servers.into_iter().map(|s| (s.name.clone(), s)).collect();
        let mut duplicates = Vec::new();
        let speakers = speakers(&servers, &mut duplicates);
        let mut members = members(&servers, &speakers);
        let owners = Owners::weigh(&servers, &speakers);
        for (id, slots) in owners.by_node() {
            if let Some(member) = members.get_mut(&id) {
                member.slots = slots;
            }
        }
        let disagreements = disagreements(&servers, &members);
        Self {
            at,
            formed,
            attempts: Vec::new(),
            starts: BTreeMap::new(),
            wins: BTreeMap::new(),
            votes: BTreeMap::new(),
            disbelieved: BTreeMap::new(),
            steady_since: None,
            down_since: BTreeMap::new(),
            took_in: BTreeMap::new(),
            slot_sizes: BTreeMap::new(),
            gave_all: BTreeMap::new(),
            former: BTreeMap::new(),
            linked: BTreeMap::new(),
            held_back: BTreeSet::new(),
            forgotten: BTreeMap::new(),
            outdated: BTreeMap::new(),
            servers,
            members,
            owners,
            duplicates,
            disagreements,
        }
    }

    /// The servers, by name.
    pub fn servers(&self) -> &BTreeMap<ServerName, Server> {
        &self.servers
    }

    /// The nodes that any view lists (handshakes left out), by id.
    pub fn members(&self) -> &BTreeMap<NodeId, Member> {
        &self.members
    }

    /// One node.
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        self.members.get(&id)
    }

    /// The server a node lives on.
    pub fn server_of(&self, id: NodeId) -> Option<&Server> {
        self.members
            .get(&id)?
            .server
            .as_ref()
            .and_then(|name| self.servers.get(name))
    }

    /// What a node itself said.
    pub fn view_of(&self, id: NodeId) -> Option<&NodeView> {
        self.server_of(id)?.view.known().filter(|v| v.id == id)
    }

    /// The views that were heard, in order of server name.
    pub fn views(&self) -> impl Iterator<Item = (&Server, &NodeView)> {
        self.servers
            .values()
            .filter_map(|s| s.view.known().map(|v| (s, v)))
    }

    /// Who owns this slot: of all claims the one with the greatest config epoch. A claim made for a node that
    /// itself speaks, and does not make it, is void.
    pub fn owner(&self, slot: Slot) -> Option<NodeId> {
        self.owners.of(slot)
    }

    /// The slots that nobody claims.
    pub fn uncovered(&self) -> SlotSet {
        self.owners.uncovered()
    }

    /// The slots that two nodes claim with one epoch.
    pub fn contested(&self) -> &SlotSet {
        self.owners.contested()
    }

    /// The node ids that two processes give as their own: a copied disk.
    pub fn duplicates(&self) -> &[DuplicateId] {
        &self.duplicates
    }

    /// Whether two processes give this id as theirs: then nothing that is said of the node is known to be about one of
    /// them, and no command is known to reach the one that is meant.
    pub fn has_duplicate(&self, node: NodeId) -> bool {
        self.duplicates.iter().any(|d| d.node == node)
    }

    /// Takes in a proof from outside this look: from an earlier one, or an address that is no server's here.
    pub fn note_duplicate(&mut self, duplicate: DuplicateId) {
        if !self.has_duplicate(duplicate.node) {
            self.duplicates.push(duplicate);
        }
    }

    /// What views hold of live nodes against the merge, in order of speaker and subject.
    pub fn disagreements(&self) -> &[Disagreement] {
        &self.disagreements
    }

    /// The primaries that own slots: those who vote.
    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members
            .values()
            .filter(|m| m.role == Role::Primary && !m.slots.is_empty())
    }

    /// The replicas of this node.
    pub fn replicas_of(&self, id: NodeId) -> impl Iterator<Item = &Member> {
        self.members
            .values()
            .filter(move |m| m.role == Role::Replica && m.primary == Some(id))
    }

    /// The primary of the shard that a node is in: itself, or whom it follows, since a failover perhaps.
    pub fn primary_of(&self, node: NodeId) -> Option<NodeId> {
        let is_primary = |id: &NodeId| self.member(*id).is_some_and(|m| m.role == Role::Primary);
        let followed = || self.member(node)?.primary.filter(is_primary);
        Some(node).filter(is_primary).or_else(followed)
    }

    /// What every view that lists `about` says of it, the speaker first.
    pub fn beliefs(&self, about: NodeId) -> impl Iterator<Item = (NodeId, &Row)> {
        self.views()
            .filter_map(move |(_, v)| v.rows.get(about).map(|row| (v.id, row)))
    }

    /// The groups of speaking nodes that know one another, directly or through others; the largest first.
    pub fn islands(&self) -> Vec<BTreeSet<NodeId>> {
        let speakers: Vec<NodeId> = self
            .members
            .values()
            .filter(|m| m.source == Source::Itself)
            .map(|m| m.id)
            .collect();
        let mut parent: Vec<usize> = (0..speakers.len()).collect();
        for (_, view) in self.views() {
            let Ok(from) = speakers.binary_search(&view.id) else {
                continue;
            };
            let mut to = 0;
            for row in view.peers() {
                while speakers.get(to).is_some_and(|id| *id < row.id) {
                    to += 1;
                }
                if speakers.get(to) == Some(&row.id) {
                    let (a, b) = (root(&mut parent, from), root(&mut parent, to));
                    parent[a.max(b)] = a.min(b);
                }
            }
        }
        let mut groups: BTreeMap<usize, BTreeSet<NodeId>> = BTreeMap::new();
        for (i, id) in speakers.iter().enumerate() {
            let r = root(&mut parent, i);
            groups.entry(r).or_default().insert(*id);
        }
        let mut islands: Vec<_> = groups.into_values().collect();
        islands.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        islands
    }
}

fn root(parent: &mut [usize], mut i: usize) -> usize {
    while parent[i] != i {
        parent[i] = parent[parent[i]];
        i = parent[i];
    }
    i
}

/// Which server speaks for which node; of two servers with one id the first speaks. A view without a row
/// of its own (a reset came between two questions) speaks for nobody.
fn speakers(
    servers: &BTreeMap<ServerName, Server>,
    duplicates: &mut Vec<DuplicateId>,
) -> BTreeMap<NodeId, ServerName> {
    let mut speakers: BTreeMap<NodeId, ServerName> = BTreeMap::new();
    for server in servers.values() {
        let Some(view) = server.view.known().filter(|v| v.own().is_some()) else {
            continue;
        };
        if let Some(first) = speakers.get(&view.id) {
            let first = servers.get(first).and_then(|s| Some((s, s.view.known()?)));
            duplicates.extend(first.map(|(known, said)| DuplicateId {
                node: view.id,
                first: Instance::of(known, said),
                second: Instance::of(server, view),
            }));
        } else {
            speakers.insert(view.id, server.name.clone());
        }
    }
    speakers
}

fn members(
    servers: &BTreeMap<ServerName, Server>,
    speakers: &BTreeMap<NodeId, ServerName>,
) -> BTreeMap<NodeId, Member> {
    let mut members: BTreeMap<NodeId, Member> = BTreeMap::new();
    for (id, name) in speakers {
        let server = &servers[name];
        let Some((view, own)) = server
            .view
            .known()
            .and_then(|v| v.own().map(|own| (v, own)))
        else {
            continue;
        };
        let mut member = from_row(own, Source::Itself);
        member.server = Some(name.clone());
        if let Some(address) = server.address.known() {
            member.address = address.clone();
        }
        member.epoch = own.epoch.max(view.cluster.my_epoch);
        members.insert(*id, member);
    }
    let mut members = hear_all(servers, members);
    // A silent node lives where the runtime recorded it.
    let silent = |s: &&Server| s.view.known().is_none_or(|v| v.own().is_none());
    for server in servers.values().filter(silent) {
        if let Some(member) = server.id().and_then(|id| members.get_mut(&id))
            && member.server.is_none()
        {
            member.server = Some(server.name.clone());
            if let Some(address) = server.address.known() {
                member.address = address.clone();
            }
        }
    }
    members
}

/// Counts what every view says of every node, and takes in the nodes that only others tell of. Rows and members are
/// both in order of id and walked side by side: at a thousand views, look-ups would take most of the time.
fn hear_all(
    servers: &BTreeMap<ServerName, Server>,
    members: BTreeMap<NodeId, Member>,
) -> BTreeMap<NodeId, Member> {
    let mut members: Vec<Member> = members.into_values().collect();
    for view in servers.values().filter_map(|s| s.view.known()) {
        let known = members.len();
        let mut at = 0;
        for row in view.rows.iter().filter(|r| r.is_member()) {
            while at < known && members[at].id < row.id {
                at += 1;
            }
            if at < known && members[at].id == row.id {
                hear(&mut members[at], row);
            } else {
                let mut member = from_row(row, Source::Others);
                hear(&mut member, row);
                members.push(member);
            }
        }
        if members.len() > known {
            members.sort_unstable_by_key(|m| m.id);
        }
    }
    members.into_iter().map(|m| (m.id, m)).collect()
}

/// One view's word about a node: it counts, and of a silent node the newest word stands.
fn hear(member: &mut Member, row: &Row) {
    if member.source == Source::Others && newer_word(row, member) {
        *member = Member {
            listed_by: member.listed_by,
            failed_by: member.failed_by,
            ..from_row(row, Source::Others)
        };
    }
    member.listed_by += 1;
    member.failed_by += u32::from(row.health == Health::Failed);
}

fn from_row(row: &Row, source: Source) -> Member {
    Member {
        id: row.id,
        server: None,
        address: row.address.clone(),
        role: row.role,
        primary: row.primary,
        epoch: row.epoch,
        slots: SlotSet::empty(),
        source,
        listed_by: 0,
        failed_by: 0,
    }
}

/// Of two words about a silent node the one with the greater epoch is newer; at one epoch, the one by which it took
/// slots, or that has an address.
fn newer_word(row: &Row, member: &Member) -> bool {
    let took = member.role == Role::Replica && row.role == Role::Primary && !row.slots.is_empty();
    let located = member.address.port == 0 && row.address.port != 0;
    row.epoch > member.epoch || (row.epoch == member.epoch && (took || located))
}

fn disagreements(
    servers: &BTreeMap<ServerName, Server>,
    members: &BTreeMap<NodeId, Member>,
) -> Vec<Disagreement> {
    let live: Vec<&Member> = members
        .values()
        .filter(|m| m.source == Source::Itself)
        .filter(|m| {
            m.server
                .as_ref()
                .and_then(|n| servers.get(n))
                .is_some_and(|s| s.process.death().is_none())
        })
        .collect();
    let own = |view: &NodeView| view.own().map(|own| own.address.port);
    let heard = servers.values().filter_map(|s| s.view.known());
    let views: BTreeMap<NodeId, Option<u16>> = heard.map(|v| (v.id, own(v))).collect();
    let mut out = Vec::new();
    for server in servers.values() {
        if matches!(server.process, Process::Dead(_)) {
            continue;
        }
        let Some(view) = server.view.known() else {
            continue;
        };
        let mut rows = view.rows.iter().peekable();
        for member in &live {
            while rows.next_if(|r| r.id < member.id).is_some() {}
            let row = rows.peek().filter(|r| r.id == member.id);
            let announced = views.get(&member.id).copied().flatten();
            let announced = announced.filter(|port| is_unheard_at(servers, member.id, *port));
            if let Some(dissent) = dissent(view, row.copied(), member, announced) {
                out.push(Disagreement {
                    speaker: view.id,
                    about: member.id,
                    dissent,
                });
            }
        }
    }
    out.sort();
    out
}

/// Whether a node's server at the port that it announces is known, and was not heard: that is said of it, then.
fn is_unheard_at(servers: &BTreeMap<ServerName, Server>, node: NodeId, port: u16) -> bool {
    servers.values().any(|s| {
        let there = s.address.known().is_some_and(|at| at.port == port);
        there && s.recorded_id == Some(node) && s.view.known().is_none()
    })
}

/// In what a row differs from the node that it is about. `announced`: the port that this node itself tells everyone.
fn dissent(
    view: &NodeView,
    row: Option<&Row>,
    member: &Member,
    announced: Option<u16>,
) -> Option<Dissent> {
    let Some(row) = row else {
        return Some(Dissent::NotListed);
    };
    let own = row.id == view.id;
    if !row.is_member() {
        Some(Dissent::Handshake)
    } else if !own
        && (row.flags.has(Flags::NOADDR) || elsewhere(&row.address, &member.address, announced))
    {
        Some(Dissent::Address)
    } else if row.role != member.role || row.primary != member.primary {
        Some(Dissent::Role)
    } else if row.slots != member.slots {
        Some(Dissent::Slots)
    } else if row.health == Health::Failed {
        Some(Dissent::Health)
    } else if !own && !row.link_up {
        Some(Dissent::Link)
    } else {
        None
    }
}

/// Whether a row's address is another than the node's. A host name on our side says nothing about the IP address that
/// the engine writes: then only the port counts. A node that announces another port than that at which it was reached is
/// listed with that by everyone who heard it: whoever is told of the right one has the wrong one again with its next word.
fn elsewhere(listed: &Address, real: &Address, announced: Option<u16>) -> bool {
    let port = listed.port != real.port && Some(listed.port) != announced;
    match (&listed.host, &real.host) {
        (Host::Unstated, _) => true,
        (Host::Ip(_), Host::Name(_) | Host::Unstated) => port,
        (Host::Ip(_) | Host::Name(_), _) => port || listed.host != real.host,
    }
}
