//! `CLUSTER NODES`.

use super::error::{Command, Fault, WireError};
use super::text::{host, hostname, ipv4, number, port, rsplit_once, split_once};
use super::words;
use crate::view::Health;
use crate::{
    Address, ConfigEpoch, Flags, Host, NodeId, OpenSlot, Role, Row, Rows, ShardId, Slot, SlotRange,
    SlotSet,
};

/// Reads the reply to `CLUSTER NODES`, of Redis 3 to 8 and Valkey 7 to 9 (Redis documentation, "CLUSTER NODES";
/// the fields after the host name as `clusterGenNodeDescription` writes them). The text of a `nodes.conf` is read
/// too: its line of variables is passed over.
///
/// Unknown flags and fields are passed over. Of two rows with one id the first counts. A row without a role is one
/// that the speaker knows by name only: it is read as a handshake.
///
/// # Errors
/// Where a field is missing or malformed, and where not exactly one row is the speaker's own, or another row has its id.
pub fn parse_nodes(text: &[u8]) -> Result<Rows, WireError> {
    let mut lines: Vec<(u64, usize, &[u8])> = Vec::with_capacity(text.len() / ROW_BYTES);
    for (number, line) in super::text::lines(text) {
        if !line.starts_with(b"vars ") {
            lines.push((order(line), number, line));
        }
    }
    // Lines are sorted rather than rows, for they are short; then the rows are born in order.
    lines.sort_unstable_by_key(|(order, number, _)| (*order, *number));
    let mut rows = Vec::with_capacity(lines.len());
    let mut own: Option<(usize, &[u8])> = None;
    let mut first_error: Option<(usize, Wrong<'_>)> = None;
    for (_, number, line) in lines {
        let wrong = match row(line) {
            Ok(row) => {
                let twice = row
                    .flags
                    .has(Flags::MYSELF)
                    .then(|| own.replace((number, line)));
                rows.push(row);
                twice.flatten().map(|other| {
                    let (number, line) = other.max((number, line));
                    (number, (MYSELF, Fault::Repeated, line))
                })
            }
            Err(wrong) => Some((number, wrong)),
        };
        if let Some(wrong) = wrong
            && first_error.is_none_or(|first| wrong.0 < first.0)
        {
            first_error = Some(wrong);
        }
    }
    let error = |line, (field, fault, near): Wrong<'_>| {
        WireError::new(Command::ClusterNodes, line, field, fault, near)
    };
    if let Some((number, wrong)) = first_error {
        return Err(error(Some(number), wrong));
    }
    let rows = Rows::new(rows);
    // Not by `own` alone: an earlier row with the same id may have taken its place.
    match (rows.myself(), own) {
        (Some(_), _) => Ok(rows),
        (None, None) => Err(error(None, (MYSELF, Fault::Missing, text))),
        (None, Some((number, line))) => {
            let wrong = ("the speaker's id", Fault::Repeated, line);
            Err(error(Some(number), wrong))
        }
    }
}

const MYSELF: &str = "the flag `myself`";

/// A row without slots and host name is about this long: for the first guess of how many there are.
const ROW_BYTES: usize = 100;

/// The first digits of the id, as a number that sorts as they do. The few ids that begin alike are put in order when
/// the rows are.
fn order(line: &[u8]) -> u64 {
    const LOWER_CASE: u64 = u64::from_ne_bytes([0x20; 8]); // which digits have set already
    line.first_chunk().map_or(0, |d| u64::from_be_bytes(*d)) | LOWER_CASE
}

/// A field that is wrong: its name, how, and what stood there.
type Wrong<'a> = (&'static str, Fault, &'a [u8]);

const FORTY_HEX: Fault = Fault::IsNot("40 hexadecimal digits");
const NUMBER: Fault = Fault::IsNot("a number");

fn row(line: &[u8]) -> Result<Row, Wrong<'_>> {
    let mut rest = line;
    let id = node_id(&mut rest, "the node id", line)?;
    let mut next = |field| word(&mut rest).ok_or((field, Fault::Missing, line));
    let place = place(next("the address")?)?;
    let said = flags(next("the list of flags")?);
    let primary = match rest {
        [b' ', b'-', b' ', tail @ ..] => {
            rest = tail;
            None
        }
        _ => Some(node_id(&mut rest, "the primary's id", line)?),
    };
    let mut next = |field| word(&mut rest).ok_or((field, Fault::Missing, line));
    let mut count = |field| {
        let digits = next(field)?;
        number(digits).ok_or((field, NUMBER, digits))
    };
    let ping_sent_ms = count("the time of the ping")?;
    let pong_received_ms = count("the time of the pong")?;
    let epoch = ConfigEpoch(count("the config epoch")?);
    let link_up = match next("the link state")? {
        b"connected" => true,
        b"disconnected" => false,
        other => {
            let fault = Fault::IsNot("`connected` or `disconnected`");
            return Err(("the link state", fault, other));
        }
    };
    let (slots, open) = slots(rest)?;
    Ok(Row {
        id,
        address: place.address,
        hostname: place.hostname,
        shard: place.shard,
        role: said.role,
        primary,
        health: said.health,
        flags: said.flags,
        ping_sent_ms,
        pong_received_ms,
        epoch,
        link_up,
        slots,
        open,
    })
}

/// Takes a node id off `rest`. Its length is known: no need to look for its end.
fn node_id<'a>(
    rest: &mut &'a [u8],
    field: &'static str,
    line: &'a [u8],
) -> Result<NodeId, Wrong<'a>> {
    let trimmed = rest.strip_prefix(b" ").unwrap_or(rest);
    if let Some((digits, tail)) = trimmed.split_at_checked(40)
        && matches!(tail, [] | [b' ', ..])
        && let Ok(id) = NodeId::parse(digits)
    {
        *rest = tail;
        return Ok(id);
    }
    let other = word(rest).ok_or((field, Fault::Missing, line))?;
    NodeId::parse(other).map_err(|_| (field, FORTY_HEX, other))
}

/// Takes the next word off `rest`.
fn word<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    while let [b' ', tail @ ..] = *rest {
        *rest = tail;
    }
    if rest.is_empty() {
        return None;
    }
    let end = rest.iter().position(|b| *b == b' ').unwrap_or(rest.len());
    let (word, tail) = rest.split_at(end);
    *rest = tail;
    Some(word)
}

struct Where {
    address: Address,
    hostname: Option<Box<str>>,
    shard: Option<ShardId>,
}

/// `host:port[@bus-port][,hostname[,name=value]*]`. An IPv6 host stands without brackets: the last colon counts.
fn place(text: &[u8]) -> Result<Where, Wrong<'_>> {
    let (socket, extra) = match split_once(text, b',') {
        Some((socket, extra)) => (socket, Some(extra)),
        None => (text, None),
    };
    let (client, bus) = match rsplit_once(socket, b'@') {
        Some((client, bus)) => (client, Some(bus)),
        None => (socket, None),
    };
    let fault = Fault::IsNot("host:port@port");
    let (name, digits) = rsplit_once(client, b':').ok_or(("the address", fault, text))?;
    let client_port = port(digits).ok_or(("the port", NUMBER, text))?;
    let host = match (name, ipv4(name)) {
        (b"", _) => Host::Unstated,
        (_, Some(ip)) => Host::Ip(ip.into()),
        (_, None) => host(name).ok_or(("the host", Fault::IsNot("text"), name))?,
    };
    let mut address = Address::new(host, client_port);
    if let Some(bus) = bus {
        address.bus_port = port(bus).ok_or(("the bus port", NUMBER, text))?;
    }
    let mut place = Where {
        address,
        hostname: None,
        shard: None,
    };
    let Some(extra) = extra else {
        return Ok(place);
    };
    let (name, pairs) = split_once(extra, b',').unwrap_or((extra, b""));
    place.hostname = hostname(name).map_err(|_| ("the host name", Fault::IsNot("text"), name))?;
    for pair in pairs.split(|b| *b == b',') {
        if let Some(shard) = pair.strip_prefix(b"shard-id=") {
            place.shard =
                Some(ShardId::parse(shard).map_err(|_| ("the shard id", FORTY_HEX, shard))?);
        }
    }
    Ok(place)
}

struct Said {
    role: Role,
    health: Health,
    flags: Flags,
}

fn flags(text: &[u8]) -> Said {
    let mut role = None;
    let mut health = Health::Fine;
    let mut flags = Flags::default();
    for flag in text.split(|b| *b == b',') {
        match flag {
            b"myself" => flags = flags.with(Flags::MYSELF),
            b"fail" => health = Health::Failed,
            b"fail?" => health = health.max(Health::Suspected),
            b"handshake" => flags = flags.with(Flags::HANDSHAKE),
            b"noaddr" => flags = flags.with(Flags::NOADDR),
            b"nofailover" => flags = flags.with(Flags::NOFAILOVER),
            other => role = words::role(other).or(role),
        }
    }
    if role.is_none() {
        flags = flags.with(Flags::HANDSHAKE);
    }
    Said {
        role: role.unwrap_or(Role::Primary),
        health,
        flags,
    }
}

/// The slots and open slots at the end of a row. Words that look like neither are fields of a later engine.
fn slots(mut rest: &[u8]) -> Result<(SlotSet, Vec<OpenSlot>), Wrong<'_>> {
    let mut ranges: Vec<SlotRange> = Vec::new();
    let mut open = Vec::new();
    while let Some(word) = word(&mut rest) {
        match word[0] {
            b'0'..=b'9' => ranges.push(range(word).ok_or((
                "a slot range",
                Fault::IsNot("within 0-16383"),
                word,
            ))?),
            b'[' => open.push(open_slot(word).ok_or((
                "an open slot",
                Fault::IsNot("[slot->-id] or [slot-<-id]"),
                word,
            ))?),
            _ => {}
        }
    }
    Ok((ranges.into_iter().collect(), open))
}

fn range(word: &[u8]) -> Option<SlotRange> {
    let (first, last) = split_once(word, b'-').unwrap_or((word, word));
    SlotRange::new(number(first)?, number(last)?).ok()
}

fn open_slot(word: &[u8]) -> Option<OpenSlot> {
    let inner = word.strip_prefix(b"[")?.strip_suffix(b"]")?;
    let (number_, arrow) = split_once(inner, b'-')?;
    let slot = Slot::new(number(number_)?).ok()?;
    match arrow {
        [b'>', b'-', id @ ..] => NodeId::parse(id)
            .ok()
            .map(|to| OpenSlot::Migrating { slot, to }),
        [b'<', b'-', id @ ..] => NodeId::parse(id)
            .ok()
            .map(|from| OpenSlot::Importing { slot, from }),
        _ => None,
    }
}
