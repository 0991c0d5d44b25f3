//! Rows, written as an engine writes them and read again, are the same rows.

use std::fmt::Write as _;

use proptest::prelude::*;
use shardwright_topology::wire::parse_nodes;
use shardwright_topology::{
    Address, ConfigEpoch, Flags, Health, Host, NodeId, OpenSlot, Role, Row, Rows, ShardId, Slot,
    SlotRange, SlotSet,
};

fn ids() -> impl Strategy<Value = NodeId> {
    // Few first bytes, so that ids that begin alike occur.
    (0..3_u8, any::<[u8; 20]>()).prop_map(|(kind, mut bytes)| {
        if kind == 0 {
            bytes[..8].fill(0xab);
        }
        NodeId::from_bytes(bytes)
    })
}

fn slot() -> impl Strategy<Value = Slot> {
    (0..16_384_u64).prop_filter_map("a slot", |n| Slot::new(n).ok())
}

fn slots() -> impl Strategy<Value = SlotSet> {
    prop::collection::vec((0..16_384_u64, 0..40_u64), 0..20).prop_map(|ranges| {
        ranges
            .into_iter()
            .filter_map(|(first, more)| SlotRange::new(first, (first + more).min(16_383)).ok())
            .collect()
    })
}

fn host() -> impl Strategy<Value = Host> {
    prop_oneof![
        any::<std::net::Ipv4Addr>().prop_map(|ip| Host::Ip(ip.into())),
        any::<std::net::Ipv6Addr>().prop_map(|ip| Host::Ip(ip.into())),
        "[a-z][a-z0-9.-]{0,20}".prop_map(|name| Host::Name(name.into())),
        Just(Host::Unstated),
    ]
}

fn open() -> impl Strategy<Value = OpenSlot> {
    (slot(), ids(), any::<bool>()).prop_map(|(slot, id, out)| {
        if out {
            OpenSlot::Migrating { slot, to: id }
        } else {
            OpenSlot::Importing { slot, from: id }
        }
    })
}

prop_compose! {
    fn row()(
        id in ids(),
        address in (host(), any::<u16>(), any::<u16>()),
        hostname in prop::option::of("[a-z][a-z0-9.-]{0,20}"),
        shard in prop::option::of(ids()),
        primary in prop::option::of(ids()),
        replica in any::<bool>(),
        health in prop::sample::select(vec![Health::Fine, Health::Suspected, Health::Failed]),
        flags in (any::<bool>(), any::<bool>(), any::<bool>()),
        times in any::<(u64, u64)>(),
        (epoch, link_up) in any::<(u64, bool)>(),
        slots in slots(),
        open in prop::collection::vec(open(), 0..3),
    ) -> Row {
        let mut said = Flags::default();
        for (set, flag) in [(flags.0, Flags::HANDSHAKE), (flags.1, Flags::NOADDR), (flags.2, Flags::NOFAILOVER)] {
            if set {
                said = said.with(flag);
            }
        }
        Row {
            id,
            address: Address { host: address.0, port: address.1, bus_port: address.2 },
            hostname: hostname.map(Into::into),
            shard: shard.and_then(|id| ShardId::parse(id.to_string().as_bytes()).ok()),
            role: if replica { Role::Replica } else { Role::Primary },
            primary: primary.filter(|_| replica),
            health,
            flags: said,
            ping_sent_ms: times.0,
            pong_received_ms: times.1,
            epoch: ConfigEpoch(epoch),
            link_up,
            slots,
            open,
        }
    }
}

fn render(row: &Row, out: &mut String) -> std::fmt::Result {
    let host = match &row.address.host {
        Host::Unstated => String::new(),
        host => host.to_string(),
    };
    write!(
        out,
        "{} {host}:{}@{}",
        row.id, row.address.port, row.address.bus_port
    )?;
    if row.hostname.is_some() || row.shard.is_some() {
        write!(out, ",{}", row.hostname.as_deref().unwrap_or(""))?;
    }
    if let Some(shard) = row.shard {
        write!(out, ",tls-port=0,shard-id={shard}")?;
    }
    let flags = [
        (row.flags.has(Flags::MYSELF), "myself"),
        (row.role == Role::Replica, "slave"),
        (
            row.role == Role::Primary && !row.flags.has(Flags::HANDSHAKE),
            "master",
        ),
        (row.health == Health::Suspected, "fail?"),
        (row.health == Health::Failed, "fail"),
        (row.flags.has(Flags::HANDSHAKE), "handshake"),
        (row.flags.has(Flags::NOADDR), "noaddr"),
        (row.flags.has(Flags::NOFAILOVER), "nofailover"),
    ];
    let flags: Vec<&str> = flags.iter().filter(|f| f.0).map(|f| f.1).collect();
    let primary = row.primary.map_or("-".to_owned(), |id| id.to_string());
    let link = if row.link_up {
        "connected"
    } else {
        "disconnected"
    };
    let (sent, heard, epoch) = (row.ping_sent_ms, row.pong_received_ms, row.epoch);
    write!(
        out,
        " {} {primary} {sent} {heard} {epoch} {link}",
        flags.join(",")
    )?;
    for range in row.slots.ranges() {
        write!(out, " {range}")?;
    }
    for open in &row.open {
        match open {
            OpenSlot::Migrating { slot, to } => write!(out, " [{slot}->-{to}]")?,
            OpenSlot::Importing { slot, from } => write!(out, " [{slot}-<-{from}]")?,
        }
    }
    out.push('\n');
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rows_survive_the_trip(mut rows in prop::collection::vec(row(), 1..12), own in any::<prop::sample::Index>()) {
        let own = own.index(rows.len());
        rows[own].flags = rows[own].flags.with(Flags::MYSELF);
        let mut text = String::new();
        for row in &rows {
            render(row, &mut text).map_err(|e| TestCaseError::fail(e.to_string()))?;
        }
        let read = parse_nodes(text.as_bytes()).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
        prop_assert_eq!(read, Rows::new(rows));
    }

    #[test]
    fn ids_begin_alike_and_repeat(pick in prop::collection::vec((0..4_u8, any::<bool>()), 1..12)) {
        let mut text = String::from("0000000000000000000000000000000000000000 :1@1 myself,master - 0 0 0 connected\n");
        let mut first = std::collections::BTreeMap::new();
        for (epoch, (n, capitals)) in (1..).zip(pick) {
            let id = format!("abcdabcd0000000000000000000000000000000{n}");
            let shown = if capitals { id.to_uppercase() } else { id.clone() };
            writeln!(text, "{shown} 10.0.0.1:1@1 master - 0 0 {epoch} connected").map_err(|e| TestCaseError::fail(e.to_string()))?;
            first.entry(id).or_insert(epoch);
        }
        let rows = parse_nodes(text.as_bytes()).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(rows.len(), first.len() + 1);
        for (id, epoch) in first {
            let row = id.parse().ok().and_then(|id| rows.get(id));
            prop_assert_eq!(row.map(|r| r.epoch), Some(ConfigEpoch(epoch)));
        }
    }
}
