//! The merge of views: what it makes of stale, silent, doubled and parted nodes; and the same by a slow model.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use shardwright_topology::{
    Address, ClusterInfo, ConfigEpoch, Death, DeathProof, Disagreement, Dissent, EngineKind, Flags,
    Health, Host, NodeId, NodeView, Observed, Place, Process, Replication, Role, Row, Rows, Seen,
    Server, ServerInfo, ServerName, Slot, SlotRange, SlotSet, Source, Starter, Timestamp, Version,
    Why,
};

fn id(n: u8) -> NodeId {
    NodeId::from_bytes([n; 20])
}

fn port(n: u8) -> u16 {
    7_000 + u16::from(n)
}

fn slots(first: u64, last: u64) -> SlotSet {
    SlotRange::new(first, last).map_or_else(|_| SlotSet::empty(), SlotSet::from)
}

fn slot(n: u64) -> Slot {
    Slot::new(n).expect("a slot")
}

/// A row of a healthy primary without slots.
fn row(n: u8, epoch: u64) -> Row {
    Row {
        id: id(n),
        address: Address::loopback(port(n)),
        hostname: None,
        shard: None,
        role: Role::Primary,
        primary: None,
        health: Health::Fine,
        flags: Flags::default(),
        ping_sent_ms: 0,
        pong_received_ms: 1,
        epoch: ConfigEpoch(epoch),
        link_up: true,
        slots: SlotSet::empty(),
        open: Vec::new(),
    }
}

fn owner(n: u8, epoch: u64, slots: SlotSet) -> Row {
    Row {
        slots,
        ..row(n, epoch)
    }
}

fn replica(n: u8, of: u8, epoch: u64) -> Row {
    Row {
        role: Role::Replica,
        primary: Some(id(of)),
        ..row(n, epoch)
    }
}

fn silent(n: u8) -> Server {
    Server {
        name: ServerName(format!("s{n}")),
        address: Seen::Known(Address::loopback(port(n))),
        place: Place::default(),
        process: Process::Running,
        starter: Starter::Step,
        leaving: false,
        view: Seen::Unknown(Why::TimedOut),
        last_heard: None,
        disk: Seen::Unknown(Why::NotAsked),
        disk_row: None,
        start_failure: None,
        recorded_id: Some(id(n)),
    }
}

fn speaking(n: u8, rows: Vec<Row>) -> Server {
    let view = NodeView {
        id: id(n),
        rows: Rows::new(rows),
        cluster: ClusterInfo::default(),
        server: ServerInfo {
            engine: EngineKind::Redis,
            version: Version {
                major: 7,
                minor: 0,
                patch: 15,
            },
            run_id: format!("run {n}"),
            replication: Replication::Primary {
                offset: 0,
                replicas: Vec::new(),
            },
            stream: None,
            stream_end: None,
            link_lost_s: None,
            loading: false,
            aof_enabled: None,
            used_memory_bytes: None,
            maxmemory_bytes: None,
            at_limit: None,
            evicted_keys: None,
            ops_per_s: None,
            libraries: None,
            keys: 0,
            databases: BTreeMap::new(),
            databases_max: None,
            uptime_s: None,
            availability_zone: None,
            no_writes: None,
            full_copies: None,
        },
        keys_in_slot: BTreeMap::new(),
        stray_keys: Seen::Known(BTreeMap::new()),
        functions: Seen::Known(BTreeMap::new()),
    };
    Server {
        view: Seen::Known(view),
        ..silent(n)
    }
}

fn merge(servers: Vec<Server>) -> Observed {
    Observed::new(Timestamp(0), None, servers)
}

fn dissents(observed: &Observed) -> Vec<Dissent> {
    observed.disagreements().iter().map(|d| d.dissent).collect()
}

#[test]
fn the_greater_epoch_owns_and_a_returning_primary_does_not() {
    let stale = vec![owner(1, 1, slots(0, 9)), replica(2, 1, 1)];
    let fresh = vec![row(1, 1), owner(2, 7, slots(0, 9))];
    let seen = merge(vec![speaking(1, stale), speaking(2, fresh)]);
    assert_eq!(seen.owner(slot(5)), Some(id(2)));
    assert!(seen.contested().is_empty());
    assert_eq!(seen.member(id(1)).map(|m| m.slots.is_empty()), Some(true));
    assert_eq!(seen.voters().map(|m| m.id).collect::<Vec<_>>(), [id(2)]);
    assert_eq!(seen.uncovered().count(), 16_374);
    assert_eq!(
        seen.disagreements(),
        [
            Disagreement {
                speaker: id(1),
                about: id(1),
                dissent: Dissent::Slots
            },
            Disagreement {
                speaker: id(1),
                about: id(2),
                dissent: Dissent::Role
            },
        ]
    );
}

#[test]
fn what_others_claim_for_one_who_speaks_is_void() {
    // Node 2 was reset: it claims nothing, though node 1 still thinks so, and with a great epoch.
    let one = vec![row(1, 1), owner(2, 9, slots(0, 9))];
    let seen = merge(vec![speaking(1, one), speaking(2, vec![row(2, 0)])]);
    assert_eq!(seen.owner(slot(0)), None);
    assert_eq!(seen.uncovered(), SlotSet::all());
}

#[test]
fn what_others_claim_for_a_silent_node_counts() {
    let one = vec![owner(1, 1, slots(0, 9)), owner(3, 7, slots(0, 99))];
    let two = vec![row(2, 2), owner(3, 6, slots(200, 210))];
    let seen = merge(vec![speaking(1, one), speaking(2, two), silent(3)]);
    assert_eq!(
        seen.owner(slot(0)),
        Some(id(3)),
        "by the greater epoch, though node 1 speaks for itself"
    );
    assert_eq!(seen.owner(slot(205)), Some(id(3)));
    assert_eq!(
        seen.member(id(3))
            .map(|m| (m.source, m.listed_by, m.epoch.0)),
        Some((Source::Others, 2, 7))
    );
}

#[test]
fn two_claims_with_one_epoch_are_contested() {
    let one = vec![owner(1, 5, slots(0, 9)), row(2, 5)];
    let two = vec![row(1, 5), owner(2, 5, slots(8, 20))];
    let seen = merge(vec![speaking(1, one), speaking(2, two)]);
    assert_eq!(seen.contested().to_string(), "8-9");
    assert_eq!(
        seen.owner(slot(8)),
        Some(id(1)),
        "the smaller id, so that all say the same"
    );
    assert_eq!(seen.owner(slot(10)), Some(id(2)));
}

#[test]
fn of_words_about_a_silent_node_the_newest_stands() {
    let lost = Row {
        address: Address {
            host: Host::Unstated,
            port: 0,
            bus_port: 0,
        },
        ..replica(3, 1, 4)
    };
    let failed = Row {
        health: Health::Failed,
        ..replica(3, 1, 4)
    };
    let older = owner(3, 2, slots(0, 3));
    let views = vec![
        speaking(1, vec![row(1, 4), lost.clone()]),
        speaking(2, vec![row(2, 3), failed]),
        speaking(4, vec![row(4, 1), older]),
        speaking(5, vec![row(5, 5), lost]),
    ];
    let seen = merge(views);
    let member = seen.member(id(3)).expect("listed");
    assert_eq!((member.role, member.primary), (Role::Replica, Some(id(1))));
    assert_eq!(
        (member.address.port, member.server.as_ref()),
        (port(3), None)
    );
    assert_eq!((member.listed_by, member.failed_by), (4, 1));
    assert_eq!(seen.replicas_of(id(1)).count(), 1);
    assert_eq!(seen.beliefs(id(3)).count(), 4);
}

#[test]
fn a_silent_node_that_took_slots_is_a_primary_whoever_has_not_heard_of_it() {
    // Its primary's epoch, which a replica shows, can be the one that it then took.
    let late = speaking(1, vec![row(1, 9), replica(3, 1, 9)]);
    let knows = speaking(2, vec![row(2, 3), owner(3, 9, slots(0, 3))]);
    let member = |seen: Observed| seen.member(id(3)).map(|m| (m.role, m.slots.count()));
    let expected = Some((Role::Primary, 4));
    assert_eq!(member(merge(vec![late.clone(), knows.clone()])), expected);
    assert_eq!(member(merge(vec![knows, late])), expected);
}

#[test]
fn a_silent_node_lives_where_it_was_recorded_unless_it_speaks_elsewhere() {
    let mut moved = silent(3);
    moved.address = Seen::Known(Address::loopback(9_000));
    let one = || vec![row(1, 1), row(3, 3)];
    let seen = merge(vec![speaking(1, one()), moved.clone()]);
    assert_eq!(seen.server_of(id(3)).map(|s| &s.name), Some(&moved.name));
    assert_eq!(
        seen.member(id(3)).map(|m| m.address.port),
        Some(9_000),
        "the runtime knows better"
    );
    assert!(seen.view_of(id(3)).is_none());

    moved.name = ServerName("old".into());
    let seen = merge(vec![
        speaking(1, one()),
        speaking(3, vec![row(3, 3)]),
        moved,
    ]);
    assert_eq!(seen.server_of(id(3)).map(|s| s.name.0.as_str()), Some("s3"));
}

#[test]
fn a_view_without_a_row_of_its_own_speaks_for_nobody() {
    let one = vec![row(1, 1), owner(2, 2, slots(0, 9))];
    let seen = merge(vec![speaking(1, one), speaking(2, vec![row(5, 0)])]);
    assert_eq!(seen.owner(slot(0)), Some(id(2)), "then others are believed");
    let member = seen.member(id(2)).expect("listed");
    assert_eq!(
        (member.source, member.server.is_some()),
        (Source::Others, true)
    );
}

#[test]
fn of_twins_the_first_speaks() {
    let mut twin = speaking(1, vec![owner(1, 9, slots(0, 99))]);
    twin.name = ServerName("z".into());
    let seen = merge(vec![
        twin.clone(),
        speaking(1, vec![owner(1, 3, slots(0, 9))]),
    ]);
    let first = ServerName("s1".into());
    let [found] = seen.duplicates() else {
        panic!("{:?}", seen.duplicates());
    };
    assert_eq!(
        (found.node, &found.first.at, &found.second.at),
        (id(1), &first, &twin.name)
    );
    assert_eq!(seen.server_of(id(1)).map(|s| &s.name), Some(&first));
    assert_eq!(seen.owner(slot(5)), Some(id(1)));
    assert_eq!(seen.owner(slot(50)), None, "a twin does not speak twice");
}

#[test]
fn islands_are_groups_that_know_one_another() {
    let seen = merge(vec![
        speaking(1, vec![row(1, 1), row(2, 1)]),
        speaking(2, vec![row(2, 1)]),
        speaking(3, vec![row(3, 1), row(9, 1)]),
        speaking(4, vec![row(4, 1), row(2, 1)]),
        silent(9),
    ]);
    let islands: Vec<Vec<NodeId>> = seen
        .islands()
        .into_iter()
        .map(|i| i.into_iter().collect())
        .collect();
    assert_eq!(islands, [vec![id(1), id(2), id(4)], vec![id(3)]]);
}

#[test]
fn each_kind_of_dissent() {
    let about = |row: Row| {
        let good = vec![row_of_one(), owner(2, 2, slots(0, 9))];
        let seen = merge(vec![
            speaking(1, vec![row_of_one(), row]),
            speaking(2, good),
        ]);
        dissents(&seen)
    };
    let good = owner(2, 2, slots(0, 9));
    let with = |change: &dyn Fn(&mut Row)| {
        let mut row = good.clone();
        change(&mut row);
        about(row)
    };
    assert_eq!(with(&|_| {}), []);
    assert_eq!(with(&|r| r.id = id(7)), [Dissent::NotListed]);
    assert_eq!(with(&|r| r.flags = Flags::HANDSHAKE), [Dissent::Handshake]);
    assert_eq!(with(&|r| r.flags = Flags::NOADDR), [Dissent::Address]);
    assert_eq!(with(&|r| r.address.port = 1), [Dissent::Address]);
    assert_eq!(
        with(&|r| r.address.host = Host::parse("127.0.0.2")),
        [Dissent::Address]
    );
    assert_eq!(
        with(&|r| r.address.host = Host::Unstated),
        [Dissent::Address]
    );
    assert_eq!(with(&|r| r.role = Role::Replica), [Dissent::Role]);
    assert_eq!(with(&|r| r.slots = slots(0, 8)), [Dissent::Slots]);
    assert_eq!(with(&|r| r.health = Health::Failed), [Dissent::Health]);
    assert_eq!(with(&|r| r.health = Health::Suspected), []);
    assert_eq!(with(&|r| r.link_up = false), [Dissent::Link]);
}

#[test]
fn who_believes_the_port_that_a_node_announces_does_not_dissent() {
    let announced = |n| {
        let mut row = row(n, 1);
        row.address.port = 9_000;
        row
    };
    let two = speaking(2, vec![row(1, 1), announced(2)]);
    let one = |row| speaking(1, vec![row_of_one(), row]);
    // As long as nothing is said of the server there, that is wrong.
    let without = merge(vec![one(announced(2)), two.clone()]);
    assert_eq!(dissents(&without), [Dissent::Address]);
    let mut there = silent(9);
    there.address = Seen::Known(Address::loopback(9_000));
    there.recorded_id = Some(id(2));
    let merge = |mut servers: Vec<Server>| {
        servers.push(there.clone());
        merge(servers)
    };
    assert_eq!(dissents(&merge(vec![one(announced(2)), two.clone()])), []);
    // It is at this host, though; and whoever has another port has an old one.
    let mut elsewhere = announced(2);
    elsewhere.address.host = Host::parse("127.0.0.2");
    assert_eq!(
        dissents(&merge(vec![one(elsewhere), two.clone()])),
        [Dissent::Address]
    );
    let mut old = announced(2);
    old.address.port = 9_001;
    assert_eq!(dissents(&merge(vec![one(old), two])), [Dissent::Address]);
}

fn row_of_one() -> Row {
    row(1, 1)
}

#[test]
fn a_name_of_ours_is_no_other_address_than_an_ip_of_theirs() {
    let mut two = speaking(2, vec![row(1, 1), row(2, 2)]);
    two.address = Seen::Known(Address::new(Host::parse("redis-2.redis"), port(2)));
    let one = speaking(1, vec![row(1, 1), row(2, 2)]);
    assert_eq!(dissents(&merge(vec![one.clone(), two.clone()])), []);
    let mut old = row(2, 2);
    old.address.port = 1;
    let one = speaking(1, vec![row(1, 1), old]);
    assert_eq!(dissents(&merge(vec![one, two])), [Dissent::Address]);
}

#[test]
fn the_dead_are_not_dissented_about_and_do_not_dissent() {
    let mut two = speaking(2, vec![row(2, 2)]);
    two.process = Process::Dead(Death {
        proof: DeathProof::ChildReaped,
        since: Timestamp(0),
    });
    assert_eq!(
        dissents(&merge(vec![speaking(1, vec![row(1, 1)]), two])),
        []
    );
}

#[test]
fn a_handshake_is_nobody_yet() {
    let met = Row {
        flags: Flags::HANDSHAKE,
        ..owner(8, 9, slots(0, 9))
    };
    let seen = merge(vec![speaking(1, vec![row(1, 1), met])]);
    assert_eq!((seen.members().len(), seen.owner(slot(0))), (1, None));
}

/// What the model is about: few nodes, epochs and slots, so that ties, gaps and twins abound.
const NODES: u8 = 5;
const SLOTS: u64 = 6;

prop_compose! {
    fn any_row(n: u8)(
        epoch in 0..4_u64,
        first in 0..SLOTS,
        more in 0..SLOTS,
        of in 0..NODES,
        kind in 0..6_u8,
        failed in any::<bool>(),
    ) -> Row {
        let last = (first + more).min(SLOTS - 1);
        let mut row = match kind {
            0 => row(n, epoch),
            1 => replica(n, of, epoch),
            // Engines write no such row; the merge must pass over its slots all the same.
            2 => Row { slots: slots(first, last), ..replica(n, of, epoch) },
            3 => Row { flags: Flags::HANDSHAKE, ..owner(n, epoch, slots(first, last)) },
            _ => owner(n, epoch, slots(first, last)),
        };
        if failed {
            row.health = Health::Failed;
        }
        row
    }
}

fn any_server() -> impl Strategy<Value = Server> {
    let rows: Vec<_> = (0..NODES).map(|n| prop::option::of(any_row(n))).collect();
    (0..NODES, 0..2_u8, 0..4_u8, rows).prop_map(|(n, name, mute, rows)| {
        let mut server = if mute == 0 {
            silent(n)
        } else {
            speaking(n, rows.into_iter().flatten().collect())
        };
        server.name = ServerName(format!("s{n}-{name}"));
        server
    })
}

/// Of every view that speaks: by name of the server.
fn first_speakers(seen: &Observed) -> BTreeMap<NodeId, ServerName> {
    let mut speakers = BTreeMap::new();
    for (server, view) in seen.views() {
        if view.own().is_some() {
            speakers
                .entry(view.id)
                .or_insert_with(|| server.name.clone());
        }
    }
    speakers
}

/// Every claim on a slot that is not void.
fn claims(seen: &Observed, slot: Slot) -> Vec<(ConfigEpoch, bool, NodeId)> {
    let speakers = first_speakers(seen);
    let mut claims = Vec::new();
    for (server, view) in seen.views() {
        for row in &view.rows {
            let own = row.id == view.id;
            let valid = match speakers.get(&row.id) {
                Some(name) => own && *name == server.name,
                None => true,
            };
            let claims_it =
                row.role == Role::Primary && row.is_member() && row.slots.contains(slot);
            if valid && claims_it {
                claims.push((row.epoch, own, row.id));
            }
        }
    }
    claims
}

/// The speakers that can be reached from this one over rows, either way.
fn reached(seen: &Observed, from: NodeId) -> BTreeSet<NodeId> {
    let speakers = first_speakers(seen);
    let mut links = BTreeSet::new();
    for (_, view) in seen.views() {
        for row in view.peers() {
            links.extend([(view.id, row.id), (row.id, view.id)]);
        }
    }
    let mut reached = BTreeSet::from([from]);
    loop {
        let more: BTreeSet<NodeId> = links
            .iter()
            .filter(|(a, b)| {
                reached.contains(a) && speakers.contains_key(b) && speakers.contains_key(a)
            })
            .map(|(_, b)| *b)
            .collect();
        if more.is_subset(&reached) {
            return reached;
        }
        reached.extend(more);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_merge_is_the_models(servers in prop::collection::vec(any_server(), 0..7)) {
        let seen = merge(servers);
        for slot in (0..=SLOTS).filter_map(|n| Slot::new(n).ok()) {
            let claims = claims(&seen, slot);
            let epoch = claims.iter().map(|c| c.0).max();
            let best: BTreeSet<NodeId> = claims.iter().filter(|c| Some(c.0) == epoch).map(|c| c.2).collect();
            let owner = claims
                .iter()
                .max_by_key(|(epoch, own, id)| (*epoch, *own, std::cmp::Reverse(*id)))
                .map(|c| c.2);
            prop_assert_eq!(seen.owner(slot), owner);
            prop_assert_eq!(seen.contested().contains(slot), best.len() > 1);
            for member in seen.members().values() {
                prop_assert_eq!(member.slots.contains(slot), owner == Some(member.id));
            }
        }
        let speakers = first_speakers(&seen);
        let mut listed = BTreeMap::new();
        for row in seen.views().flat_map(|(_, v)| &v.rows).filter(|r| r.is_member()) {
            let (all, failed) = listed.entry(row.id).or_insert((0, 0));
            *all += 1;
            *failed += u32::from(row.health == Health::Failed);
        }
        let members: BTreeMap<_, _> = seen.members().values().map(|m| (m.id, (m.listed_by, m.failed_by))).collect();
        for (id, counts) in &listed {
            prop_assert_eq!(members.get(id), Some(counts));
        }
        for member in seen.members().values() {
            prop_assert_eq!(member.source == Source::Itself, speakers.contains_key(&member.id));
            if member.source == Source::Others {
                let newest = seen.beliefs(member.id).filter(|(_, r)| r.is_member()).map(|(_, r)| r.epoch).max();
                prop_assert_eq!(Some(member.epoch), newest);
            }
        }
        prop_assert!(seen.disagreements().is_sorted());
        let islands = seen.islands();
        prop_assert_eq!(islands.iter().map(BTreeSet::len).sum::<usize>(), speakers.len());
        for island in &islands {
            for id in island {
                prop_assert_eq!(&reached(&seen, *id), island);
            }
        }
    }

    #[test]
    fn the_order_of_servers_does_not_matter(servers in prop::collection::vec(any_server(), 0..6)) {
        // Of two servers with one name the later counts: names are made different first.
        let named: Vec<Server> = servers
            .into_iter()
            .enumerate()
            .map(|(i, s)| Server { name: ServerName(format!("{i}")), ..s })
            .collect();
        let turned: Vec<Server> = named.iter().rev().cloned().collect();
        prop_assert_eq!(format!("{:?}", merge(named)), format!("{:?}", merge(turned)));
    }
}
