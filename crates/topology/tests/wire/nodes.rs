//! `CLUSTER NODES`.

use super::Outcome;
use shardwright_topology::wire::{Fault, parse_nodes};
use shardwright_topology::{
    Address, Claim, ConfigEpoch, Flags, Health, Host, NodeId, OpenSlot, Role, Slot, SlotRange,
    SlotSet,
};

const A: &str = "e32dcce8dbed8256b33552258eea37f0c738d609";
const B: &str = "05b8531aec6956442f415310ff7579006998bc6c";

fn id(text: &str) -> Result<NodeId, Box<dyn std::error::Error>> {
    Ok(text.parse()?)
}

#[test]
fn what_a_row_claims() -> Outcome {
    let claim = |role: &str, slots: &str| {
        Claim::read(format!("{A} :7000@17000 myself,{role} - 0 0 12 connected {slots}").as_bytes())
    };
    let slots = SlotRange::new(0, 5460)?.into();
    let epoch = ConfigEpoch(12);
    assert_eq!(claim("master", "0-5460"), Claim::Slots { epoch, slots });
    let slots = SlotSet::empty();
    let taking_in = claim("master", &format!("[93-<-{B}]"));
    assert_eq!(taking_in, Claim::Slots { epoch, slots });
    assert_eq!(claim("master", ""), Claim::Nothing);
    assert_eq!(claim("slave", ""), Claim::Nothing);
    for table in [&b""[..], b"unknown", b"\xff"] {
        assert_eq!(Claim::read(table), Claim::Unreadable);
    }
    Ok(())
}

#[test]
fn a_row_with_everything_in_it() -> Outcome {
    let text = format!(
        "{A} ::1:7000@17000,redis-0.redis,shard-id={B},tls-port=0,zone=a myself,master,nofailover,later - 0 5 7 connected 0-99 200 [93->-{B}] [77-<-{B}] later=1\n\
         {B} :0@0 slave,fail,noaddr {A} 1 2 7 disconnected\r\n"
    );
    let rows = parse_nodes(text.as_bytes())?;
    let own = rows.myself().ok_or("no own row")?;
    assert_eq!(own.id, id(A)?);
    assert_eq!(own.address, Address::new(Host::parse("::1"), 7000));
    assert_eq!(own.hostname.as_deref(), Some("redis-0.redis"));
    assert_eq!(own.shard.map(|s| s.to_string()), Some(B.to_owned()));
    assert_eq!(
        (own.role, own.health, own.link_up),
        (Role::Primary, Health::Fine, true)
    );
    assert_eq!(own.flags, Flags::MYSELF.with(Flags::NOFAILOVER));
    assert_eq!(
        (own.ping_sent_ms, own.pong_received_ms, own.epoch.0),
        (0, 5, 7)
    );
    assert_eq!(own.slots.to_string(), "0-99,200");
    let (to, from) = (id(B)?, id(B)?);
    assert_eq!(
        own.open,
        [
            OpenSlot::Migrating {
                slot: Slot::new(93)?,
                to
            },
            OpenSlot::Importing {
                slot: Slot::new(77)?,
                from
            }
        ]
    );
    let other = rows.get(id(B)?).ok_or("no other row")?;
    assert_eq!(
        (
            &other.address.host,
            other.address.port,
            other.address.bus_port
        ),
        (&Host::Unstated, 0, 0)
    );
    assert_eq!(
        (other.role, other.health, other.link_up),
        (Role::Replica, Health::Failed, false)
    );
    assert_eq!(other.primary, Some(id(A)?));
    Ok(())
}

#[test]
fn an_error_says_where() -> Outcome {
    let text = format!(
        "{A} :7000@17000 myself,master - 0 0 0 connected\n{B} 1.2.3.4:x@1 master - 0 0 0 connected\n"
    );
    let error = parse_nodes(text.as_bytes()).err().ok_or("read")?;
    assert_eq!(
        (error.line, error.field, error.fault),
        (Some(2), "the port", Fault::IsNot("a number"))
    );
    assert!(error.to_string().contains("1.2.3.4:x@1"), "{error}");
    assert!(parse_nodes(b"").is_err());
    Ok(())
}

#[test]
fn one_row_is_the_speakers_own() {
    let row =
        |id: &str, flags: &str| format!("{id} 10.0.0.1:7000@17000 {flags} - 0 0 0 connected\n");
    let fault = |text: String| {
        parse_nodes(text.as_bytes())
            .err()
            .map(|e| (e.line, e.fault))
    };
    let (own, other) = (row(A, "myself,master"), row(B, "master"));
    assert_eq!(fault(own.clone() + &other), None);
    assert_eq!(fault(other.clone()), Some((None, Fault::Missing)));
    let second = row(B, "myself,master");
    assert_eq!(
        fault(own.clone() + &second),
        Some((Some(2), Fault::Repeated))
    );
    assert_eq!(
        fault(row(A, "master") + &own),
        Some((Some(2), Fault::Repeated)),
        "its id is taken"
    );
    assert_eq!(fault(own + &row(A, "master")), None, "the first row counts");
}

#[test]
fn a_row_without_a_role_is_a_handshake() -> Outcome {
    let text = format!(
        "{A} :7000@17000 myself,master - 0 0 0 connected\n{B} 10.0.0.2:7000 noflags - 0 0 0 connected\n"
    );
    let rows = parse_nodes(text.as_bytes())?;
    let row = rows.get(id(B)?).ok_or("no row")?;
    assert!(!row.is_member());
    assert_eq!(
        row.address.bus_port, 17_000,
        "old engines write no bus port"
    );
    Ok(())
}
