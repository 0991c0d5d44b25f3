//! What real servers wrote, read.

use std::collections::BTreeSet;

use shardwright_topology::wire::{
    Fault, Reply, RoleLink, RoleReply, ShardHealth, parse_cluster_info, parse_keyspace,
    parse_my_id, parse_nodes, parse_role, parse_server_info, parse_shards,
};
use shardwright_topology::{
    EngineKind, Flags, Health, Host, NoWrites, OpenSlot, Replication, Role, Row, Rows, SLOT_COUNT,
    SlotSet,
};

use super::{ENGINES, Outcome, resp, sample};

fn rows(engine: &str, name: &str) -> Result<Rows, Box<dyn std::error::Error>> {
    Ok(parse_nodes(&sample(engine, name)?)?)
}

fn covered(rows: &Rows) -> u16 {
    rows.iter().map(|r| r.slots.count()).sum()
}

fn only(rows: &Rows, what: impl Fn(&Row) -> bool) -> Result<&Row, String> {
    let found: Vec<_> = rows.iter().filter(|r| what(r)).collect();
    match found[..] {
        [row] => Ok(row),
        _ => Err(format!("{} rows are like that", found.len())),
    }
}

#[test]
fn a_formed_cluster_with_host_names() -> Outcome {
    for engine in ENGINES {
        for name in ["nodes-formed", "nodes-conf"] {
            let rows = rows(engine, name)?;
            assert_eq!(
                (rows.len(), covered(&rows)),
                (6, SLOT_COUNT),
                "{engine} {name}"
            );
            let replicas: Vec<&Row> = rows.iter().filter(|r| r.role == Role::Replica).collect();
            assert_eq!(replicas.len(), 3);
            let followed: BTreeSet<_> = replicas.iter().filter_map(|r| r.primary).collect();
            assert_eq!(followed.len(), 3, "each follows another");
            for row in &rows {
                assert!(
                    row.hostname
                        .as_ref()
                        .is_some_and(|n| n.starts_with("redis-"))
                );
                assert!(row.link_up && row.is_member() && row.health == Health::Fine);
                assert!(matches!(row.address.host, Host::Ip(ip) if ip.is_loopback()));
                assert_eq!(row.address.bus_port, row.address.port + 10_000);
                let told = (engine, name) == ("valkey-9.1.2", "nodes-conf");
                assert_eq!(row.shard.is_some(), told, "only this file tells shards");
            }
        }
    }
    Ok(())
}

#[test]
fn a_node_before_its_first_meeting_has_no_host() -> Outcome {
    for engine in ENGINES {
        let rows = rows(engine, "nodes-blank")?;
        let own = rows.myself().ok_or("no own row")?;
        assert_eq!((rows.len(), &own.address.host), (1, &Host::Unstated));
        assert_ne!(own.address.port, 0);
        assert_eq!((own.role, own.slots.is_empty()), (Role::Primary, true));
    }
    Ok(())
}

#[test]
fn open_slots_on_both_sides() -> Outcome {
    for engine in ENGINES {
        let (a, b) = (rows(engine, "nodes-open-0")?, rows(engine, "nodes-open-1")?);
        let a = a.myself().ok_or("no own row")?;
        let b = b.myself().ok_or("no own row")?;
        let numbers: Vec<u16> = a.open.iter().map(|o| o.slot().number()).collect();
        assert_eq!(numbers, [93, 6000]);
        assert!(matches!(a.open[0], OpenSlot::Migrating { to, .. } if to == b.id));
        assert!(matches!(a.open[1], OpenSlot::Importing { from, .. } if from == b.id));
        assert!(matches!(b.open[0], OpenSlot::Importing { from, .. } if from == a.id));
        assert!(matches!(b.open[1], OpenSlot::Migrating { to, .. } if to == a.id));
        assert_eq!(
            a.slots.to_string(),
            "0-5460",
            "open slots are not among the owned"
        );
    }
    Ok(())
}

#[test]
fn a_handshake_is_no_member() -> Outcome {
    for engine in ENGINES {
        let rows = rows(engine, "nodes-handshake")?;
        let row = only(&rows, |r| !r.is_member())?;
        assert!(row.flags.has(Flags::HANDSHAKE));
        assert_eq!(row.address.port % 100, 90);
    }
    Ok(())
}

#[test]
fn addresses_of_ipv6() -> Outcome {
    for engine in ENGINES {
        let rows = rows(engine, "nodes-ipv6")?;
        let row = only(
            &rows,
            |r| matches!(r.address.host, Host::Ip(ip) if ip.is_ipv6()),
        )?;
        assert_eq!(
            row.address.to_string(),
            format!("[::1]:{}", row.address.port)
        );
        assert_eq!(row.address.port % 100, 6);
        assert_eq!((&row.hostname, covered(&rows)), (&None, SLOT_COUNT));
    }
    Ok(())
}

#[test]
fn after_a_failover_the_old_primary_has_failed_and_owns_nothing() -> Outcome {
    for engine in ENGINES {
        let before = rows(engine, "nodes-formed")?;
        let after = rows(engine, "nodes-failover")?;
        let old = only(&after, |r| r.health == Health::Failed)?;
        assert_eq!(
            (old.role, old.link_up, old.slots.is_empty()),
            (Role::Primary, false, true)
        );
        let slots = &before.get(old.id).ok_or("unknown before")?.slots;
        let new = only(&after, |r| &r.slots == slots)?;
        assert!(new.epoch > old.epoch && new.role == Role::Primary);
        assert_eq!(before.get(new.id).map(|r| r.primary), Some(Some(old.id)));
        assert_eq!(covered(&after), SLOT_COUNT);
    }
    Ok(())
}

#[test]
fn an_address_that_is_no_longer_its_own() -> Outcome {
    for engine in ENGINES {
        let rows = rows(engine, "nodes-noaddr")?;
        let row = only(&rows, |r| r.flags.has(Flags::NOADDR))?;
        assert_eq!((&row.address.host, row.address.port), (&Host::Unstated, 0));
        assert_eq!(
            (row.health, row.hostname.as_deref()),
            (Health::Failed, Some("redis-0.redis"))
        );
    }
    Ok(())
}

#[test]
fn cluster_info_before_and_after_forming_and_failover() -> Outcome {
    for engine in ENGINES {
        let blank = parse_cluster_info(&sample(engine, "cinfo-blank")?)?;
        let said = (blank.state_ok, blank.slots_assigned, blank.known_nodes);
        assert_eq!(said, (false, 0, 1));
        let formed = parse_cluster_info(&sample(engine, "cinfo-formed")?)?;
        assert_eq!(
            (
                formed.state_ok,
                formed.slots_assigned,
                formed.known_nodes,
                formed.size
            ),
            (true, SLOT_COUNT, 6, 3)
        );
        assert_eq!((formed.current_epoch.0, formed.my_epoch.0), (6, 1));
        let failover = parse_cluster_info(&sample(engine, "cinfo-failover")?)?;
        assert_eq!(
            (
                failover.state_ok,
                failover.known_nodes,
                failover.current_epoch.0
            ),
            (true, 7, 7)
        );
    }
    Ok(())
}

#[test]
fn info_of_a_primary() -> Outcome {
    for engine in ENGINES {
        let info = parse_server_info(&sample(engine, "info-primary")?)?;
        let (kind, version) = engine.split_once('-').ok_or("engine-version")?;
        assert_eq!(
            info.engine,
            if kind == "redis" {
                EngineKind::Redis
            } else {
                EngineKind::Valkey
            }
        );
        assert_eq!(info.version.to_string(), version);
        assert_eq!((info.run_id.len(), info.loading, info.keys), (40, false, 1));
        assert_eq!(
            (info.aof_enabled, info.maxmemory_bytes),
            (Some(false), Some(0))
        );
        assert!(info.used_memory_bytes.is_some_and(|b| b > 1_000_000));
        assert!(info.ops_per_s.is_some() && info.uptime_s.is_some());
        let Replication::Primary { offset, replicas } = info.replication else {
            return Err("not a primary".into());
        };
        assert!(offset > 0);
        let [replica] = &replicas[..] else {
            return Err(format!("{replicas:?}").into());
        };
        assert!(replica.online && replica.address.host.ip().is_some_and(|ip| ip.is_loopback()));
    }
    Ok(())
}

#[test]
fn info_tells_why_writes_are_refused() -> Outcome {
    for engine in ENGINES {
        let text = String::from_utf8(sample(engine, "info-primary")?)?;
        let with = |line: &str, instead: &str| {
            assert!(text.contains(line), "{engine}: no {line}");
            parse_server_info(text.replace(line, instead).as_bytes()).map(|info| info.no_writes)
        };
        assert_eq!(parse_server_info(text.as_bytes())?.no_writes, None);
        let failed = "aof_last_write_status:err";
        assert_eq!(
            with("aof_last_write_status:ok", failed)?,
            None,
            "it writes none"
        );
        let logs = text.replace("aof_enabled:0", "aof_enabled:1");
        let logs = logs.replace("aof_last_write_status:ok", failed);
        let why = parse_server_info(logs.as_bytes())?.no_writes;
        assert_eq!(why, Some(NoWrites::Log));
        let snapshot = "rdb_last_bgsave_status:";
        let failed = format!("{snapshot}err");
        assert_eq!(
            with("rdb_last_bgsave_status:ok", &failed)?,
            Some(NoWrites::Snapshot)
        );
        // What it evicts by is the policy of the sample: none.
        assert_eq!(
            with("\nmaxmemory:0", "\nmaxmemory:1")?,
            Some(NoWrites::Memory)
        );
        let lines = |n| format!("# Replication\r\nmin_slaves_good_slaves:{n}");
        let good = |n: u32| with("# Replication", &lines(n));
        let replicas = |good| Some(NoWrites::Replicas { good });
        assert_eq!((good(0)?, good(1)?), (replicas(0), replicas(1)));
    }
    Ok(())
}

#[test]
fn info_of_replicas_with_and_without_a_copy() -> Outcome {
    for engine in ENGINES {
        let info = parse_server_info(&sample(engine, "info-replica")?)?;
        assert!(
            matches!(
                info.replication,
                Replication::Replica {
                    link_up: true,
                    syncing: false,
                    offset: 14..,
                    ..
                }
            ),
            "{info:?}"
        );
        assert!(
            info.stream.is_some() && info.link_lost_s.is_none(),
            "{info:?}"
        );
        assert!(info.stream_end.is_some_and(|end| end >= 14), "{info:?}");
        let never = parse_server_info(&sample(engine, "info-never")?)?;
        assert!(
            matches!(
                never.replication,
                Replication::Replica {
                    link_up: false,
                    syncing: false,
                    offset: 0,
                    ..
                }
            ),
            "{never:?}"
        );
        // Its stream is its own, and it had no link that it could have lost.
        assert!(
            never.stream.is_some() && never.link_lost_s.is_none(),
            "{never:?}"
        );
        // Its offset as a replica is none, and the end of its own stream is told all the same.
        assert!(never.stream_end.is_some(), "{never:?}");
        assert_eq!(parse_server_info(&sample(engine, "info-blank")?)?.keys, 0);
    }
    Ok(())
}

#[test]
fn keys_of_all_databases_count() -> Outcome {
    let engine = ENGINES.last().ok_or("no engine")?;
    let text = String::from_utf8(sample(engine, "info-primary")?)?;
    let more =
        format!("{text}db2:keys=40,expires=0,avg_ttl=0\r\ndb11:keys=2,expires=0,avg_ttl=0\r\n");
    let info = parse_server_info(more.as_bytes())?;
    assert_eq!(info.keys, 43);
    assert_eq!(info.databases, [(0, 1), (2, 40), (11, 2)].into());
    let only = "# Keyspace\r\ndb3:keys=5,expires=0,avg_ttl=0,subexpiry=0\r\n";
    assert_eq!(parse_keyspace(only.as_bytes())?, [(3, 5)].into());
    assert!(parse_keyspace(b"# Keyspace\r\n")?.is_empty());
    assert!(parse_keyspace(b"").is_err(), "no keyspace is not no keys");
    assert!(parse_keyspace(b"# Keyspace\r\ndb3:expires=0\r\n").is_err());
    Ok(())
}

#[test]
fn info_without_a_needed_field_names_it() -> Outcome {
    let needed = [
        (
            "info-primary",
            vec!["run_id", "role", "master_repl_offset", "loading"],
        ),
        (
            "info-replica",
            vec![
                "master_host",
                "master_port",
                "master_link_status",
                "master_sync_in_progress",
                "slave_repl_offset",
            ],
        ),
    ];
    for engine in ENGINES {
        for (name, fields) in &needed {
            let text = String::from_utf8(sample(engine, name)?)?;
            for field in fields {
                let without = text.replace(&format!("\n{field}:"), "\nother:");
                let error = parse_server_info(without.as_bytes()).err().ok_or("read")?;
                assert_eq!((error.field, error.fault), (*field, Fault::Missing));
                assert!(error.to_string().contains(field));
            }
        }
        let text = String::from_utf8(sample(engine, "info-blank")?)?;
        let error = parse_server_info(text.replace("# Keyspace", "").as_bytes());
        assert_eq!(
            error.err().map(|e| e.field),
            Some("db0"),
            "no keyspace is not no keys"
        );
        let less = text
            .replace("\nused_memory:", "\nx:")
            .replace("\naof_enabled:", "\nx:");
        let less = parse_server_info(less.as_bytes())?;
        assert_eq!((less.used_memory_bytes, less.aof_enabled), (None, None));
    }
    Ok(())
}

#[test]
fn shards_are_the_same_in_both_protocols() -> Outcome {
    for engine in ENGINES {
        let resp2 = resp::read(&sample(engine, "shards-resp2")?);
        let resp3 = resp::read(&sample(engine, "shards-resp3")?);
        assert!(matches!(&resp3[1], Reply::List(l) if matches!(l[0], Reply::Map(_))));
        let shards = parse_shards(&resp2[0])?;
        assert_eq!(shards, parse_shards(&resp3[1])?);
        let all = shards
            .iter()
            .fold(SlotSet::empty(), |all, s| all.union(&s.slots));
        assert_eq!(all, SlotSet::all());
        assert!(
            shards
                .iter()
                .all(|s| s.id.is_some() == engine.starts_with("valkey"))
        );
        let nodes: Vec<_> = shards.iter().flat_map(|s| &s.nodes).collect();
        assert_eq!(nodes.len(), 7);
        let failed: Vec<_> = nodes
            .iter()
            .filter(|n| n.health == ShardHealth::Failed)
            .collect();
        assert_eq!(failed.len(), 1);
        assert_eq!((&failed[0].ip, failed[0].tls_port), (&Host::Unstated, None));
        assert!(
            nodes
                .iter()
                .any(|n| n.role == Role::Replica && n.port.is_some())
        );
        assert!(matches!(parse_role(&resp2[1])?, RoleReply::Primary { .. }));
    }
    Ok(())
}

#[test]
fn roles() -> Outcome {
    for engine in ENGINES {
        let words = |name| -> Result<Reply, std::io::Error> {
            let text = sample(engine, name)?;
            let lines = text.split(|b| *b == b'\n').filter(|l| !l.is_empty());
            Ok(Reply::List(
                lines.map(|l| Reply::Text(l.to_vec())).collect(),
            ))
        };
        let replica = parse_role(&words("role-replica")?)?;
        assert!(matches!(
            replica,
            RoleReply::Replica {
                link: RoleLink::Connected,
                offset: Some(14..),
                ..
            }
        ));
        let never = parse_role(&words("role-never")?)?;
        assert!(
            matches!(
                never,
                RoleReply::Replica {
                    link: RoleLink::Connecting,
                    offset: None,
                    ..
                }
            ),
            "{never:?}"
        );
        let Reply::List(mut flat) = words("role-primary")? else {
            return Err("no list".into());
        };
        let replica = Reply::List(flat.split_off(2));
        flat.push(Reply::List(vec![replica]));
        let RoleReply::Primary { offset, replicas } = parse_role(&Reply::List(flat))? else {
            return Err("not a primary".into());
        };
        assert!(offset >= 50 && replicas.len() == 1);
    }
    let sentinel = Reply::List(vec![Reply::Text(b"sentinel".to_vec()), Reply::List(vec![])]);
    assert!(parse_role(&sentinel).is_err());
    Ok(())
}

#[test]
fn an_id_alone() -> Outcome {
    let id = "e32dcce8dbed8256b33552258eea37f0c738d609";
    assert_eq!(parse_my_id(format!("{id}\r\n").as_bytes())?.to_string(), id);
    let error = parse_my_id(b"ERR This instance has cluster support disabled").err();
    assert!(error.is_some_and(|e| e.to_string().contains("cluster support disabled")));
    Ok(())
}
