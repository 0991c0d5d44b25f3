//! Three shards of two; one node's Kubernetes node is away.

use shardwright_topology::{
    Address, ClusterInfo, ConfigEpoch, EngineKind, Flags, Health, NodeView, Place, Process,
    Replication, Row, Rows, Seen, ServerInfo, SlotRange, SlotSet, Starter, Version, Why,
};

use super::*;

const AFTER_MS: u64 = 60_000;
const NOW: Timestamp = Timestamp(1_000_000);

/// Primaries 0, 1, 2 and their replicas 3, 4, 5.
fn id(n: usize) -> NodeId {
    let mut bytes = [0; 20];
    bytes[0] = u8::try_from(n).expect("a small number");
    NodeId::from_bytes(bytes)
}

fn row(n: usize, owner: [usize; 3]) -> Row {
    let ranges = [(0, 5_000), (5_001, 10_000), (10_001, 16_383)];
    let place = owner.iter().position(|o| *o == n);
    let slots = place.map_or_else(SlotSet::empty, |i| {
        SlotSet::from(SlotRange::new(ranges[i].0, ranges[i].1).expect("a range"))
    });
    Row {
        id: id(n),
        address: Address::loopback(7_000 + u16::try_from(n).expect("a small number")),
        hostname: None,
        shard: None,
        role: if place.is_some() {
            Role::Primary
        } else {
            Role::Replica
        },
        primary: place.is_none().then(|| id(owner[n % 3])),
        health: Health::Fine,
        flags: Flags::default(),
        ping_sent_ms: 0,
        pong_received_ms: 0,
        epoch: ConfigEpoch(u64::try_from(n % 3).expect("a small number") + 1),
        link_up: true,
        slots,
        open: Vec::new(),
    }
}

fn view(n: usize, owner: [usize; 3], listed: &[usize]) -> NodeView {
    let mut rows: Vec<Row> = listed.iter().map(|m| row(*m, owner)).collect();
    for row in rows.iter_mut().filter(|row| row.id == id(n)) {
        row.flags = Flags::MYSELF;
    }
    NodeView {
        id: id(n),
        rows: Rows::new(rows),
        cluster: ClusterInfo {
            state_ok: true,
            slots_assigned: 16_384,
            known_nodes: 6,
            size: 3,
            current_epoch: ConfigEpoch(3),
            my_epoch: ConfigEpoch(1),
        },
        server: ServerInfo {
            engine: EngineKind::Redis,
            version: Version {
                major: 7,
                minor: 0,
                patch: 15,
            },
            run_id: format!("run-{n}"),
            replication: Replication::Primary {
                offset: 0,
                replicas: Vec::new(),
            },
            loading: false,
            aof_enabled: Some(true),
            used_memory_bytes: None,
            maxmemory_bytes: None,
            ops_per_s: None,
            keys: 1,
            uptime_s: Some(1),
        },
        keys_in_slot: std::collections::BTreeMap::new(),
    }
}

/// What is seen when these own the slots, these are listed, and these are silent.
fn observed(owner: [usize; 3], listed: &[usize], silent: &[usize]) -> Observed {
    let server = |n: usize| Server {
        name: ServerName(format!("redis-{n}")),
        address: Seen::Unknown(Why::NotAsked),
        place: Place::default(),
        process: Process::Unknown,
        starter: Starter::Host,
        leaving: false,
        view: if silent.contains(&n) {
            Seen::Unknown(Why::TimedOut)
        } else {
            Seen::Known(view(n, owner, listed))
        },
        last_heard: None,
        disk: Seen::Unknown(Why::NotAsked),
        recorded_id: (n != 6).then(|| id(n)),
    };
    Observed::new(NOW, None, (0..7).map(server))
}

fn judge(n: usize, away_ms: Option<u64>, o: &Observed) -> Result<(), NoRecreate> {
    let stranded = Stranded {
        server: ServerName(format!("redis-{n}")),
        host: "node-1".to_owned(),
        away_since: away_ms.map(|ms| Timestamp(NOW.0 - ms)),
    };
    may_recreate(&stranded, AFTER_MS, o, NOW)
}

const ALL: [usize; 6] = [0, 1, 2, 3, 4, 5];

#[test]
fn a_replica_is_made_anew_once_its_host_was_away_for_long_and_its_primary_speaks() {
    let o = observed([0, 1, 2], &ALL, &[4, 6]);
    assert_eq!(judge(4, Some(AFTER_MS), &o), Ok(()));
    assert_eq!(judge(4, None, &o), Err(NoRecreate::HostIsThere));
    let soon = judge(4, Some(AFTER_MS - 1), &o);
    assert_eq!(soon, Err(NoRecreate::NotYet { left_ms: 1 }));
}

#[test]
fn the_last_copy_of_a_shard_is_never_given_up() {
    let primary = observed([0, 1, 2], &ALL, &[1, 6]);
    assert_eq!(
        judge(1, Some(AFTER_MS), &primary),
        Err(NoRecreate::OwnsSlots { node: id(1) })
    );
    let both = observed([0, 1, 2], &ALL, &[1, 4, 6]);
    let silent = NoRecreate::PrimarySilent { primary: id(1) };
    assert_eq!(judge(4, Some(AFTER_MS), &both), Err(silent));
}

#[test]
fn an_old_primary_goes_once_its_successor_owns_the_slots() {
    let o = observed([0, 4, 2], &ALL, &[1, 6]);
    assert_eq!(judge(1, Some(AFTER_MS), &o), Ok(()));
}

#[test]
fn a_forgotten_node_goes_only_while_all_slots_are_served() {
    let listed = [0, 1, 2, 3, 5];
    assert_eq!(
        judge(4, Some(AFTER_MS), &observed([0, 1, 2], &listed, &[4, 6])),
        Ok(())
    );
    let o = observed([0, 1, 2], &listed, &[2, 4, 6]);
    assert_eq!(
        judge(4, Some(AFTER_MS), &o),
        Err(NoRecreate::SomeSlotsSilent)
    );
}

#[test]
fn what_speaks_or_is_not_known_stays() {
    let o = observed([0, 1, 2], &ALL, &[6]);
    assert_eq!(judge(4, Some(AFTER_MS), &o), Err(NoRecreate::Speaks));
    assert_eq!(judge(6, Some(AFTER_MS), &o), Err(NoRecreate::DataUnknown));
    assert_eq!(judge(9, Some(AFTER_MS), &o), Err(NoRecreate::DataUnknown));
}
