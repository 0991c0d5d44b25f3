//! `ROLE`.

use super::error::{Command, Fault, WireError};
use super::reply::Reply;
use super::words;
use crate::{Address, Host, Role};

/// The state of a replica's link to its primary, as `ROLE` tells it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RoleLink {
    /// It has to connect yet, connects, or shakes hands.
    Connecting,
    /// It takes a full copy.
    Syncing,
    /// It follows the stream.
    Connected,
    /// A state that this parser does not know: it does not follow the stream for certain.
    Other,
}

/// A replica as `ROLE` on its primary lists it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RoleReplica {
    /// Its address as the primary sees it, with the default bus port.
    pub address: Address,
    /// How far it confirmed the stream, in bytes.
    pub offset: u64,
}

/// What `ROLE` tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RoleReply {
    /// It acts as a primary.
    Primary {
        /// The end of its stream, in bytes.
        offset: u64,
        /// The replicas that follow it.
        replicas: Vec<RoleReplica>,
    },
    /// It acts as a replica.
    Replica {
        /// The address it copies from.
        primary: Address,
        /// The state of the link.
        link: RoleLink,
        /// How far it has read the stream, in bytes; `None` while there is no stream (the engine says -1).
        offset: Option<u64>,
    },
}

/// Reads the reply to `ROLE` (Redis documentation, "ROLE").
///
/// # Errors
/// When the reply is no list of that form; the reply of a sentinel is none.
pub fn parse_role(reply: &Reply) -> Result<RoleReply, WireError> {
    let items = reply
        .list()
        .ok_or_else(|| wrong("the reply", "a list", reply))?;
    let need = |i: usize, field| {
        items
            .get(i)
            .ok_or_else(|| WireError::new(Command::Role, Some(i + 1), field, Fault::Missing, b""))
    };
    let word = need(0, "the role")?;
    let role = word
        .text()
        .and_then(words::role)
        .ok_or_else(|| wrong("the role", "a primary's or a replica's", word))?;
    match role {
        Role::Primary => {
            let offset = need(1, "the offset")?;
            let list = need(2, "the list of replicas")?;
            let replicas = list
                .list()
                .ok_or_else(|| wrong("the list of replicas", "a list", list))?
                .iter()
                .map(replica)
                .collect::<Result<_, _>>()?;
            Ok(RoleReply::Primary {
                offset: known_offset(offset)?,
                replicas,
            })
        }
        Role::Replica => {
            let primary = address(
                need(1, "the primary's host")?,
                need(2, "the primary's port")?,
            )?;
            let state = need(3, "the link state")?;
            let link = match state.text() {
                Some(b"connect" | b"connecting" | b"handshake") => RoleLink::Connecting,
                Some(b"sync") => RoleLink::Syncing,
                Some(b"connected") => RoleLink::Connected,
                Some(_) => RoleLink::Other,
                None => return Err(wrong("the link state", "text", state)),
            };
            Ok(RoleReply::Replica {
                primary,
                link,
                offset: offset_of(need(4, "the offset")?)?,
            })
        }
    }
}

fn replica(item: &Reply) -> Result<RoleReplica, WireError> {
    match item.list() {
        Some([host, port, offset, ..]) => Ok(RoleReplica {
            address: address(host, port)?,
            offset: known_offset(offset)?,
        }),
        _ => Err(wrong("a replica", "host, port and offset", item)),
    }
}

fn address(host: &Reply, port: &Reply) -> Result<Address, WireError> {
    let name = host
        .text()
        .and_then(|t| std::str::from_utf8(t).ok())
        .ok_or_else(|| wrong("a host", "text", host))?;
    let number = port
        .number()
        .and_then(|n| u16::try_from(n).ok())
        .ok_or_else(|| wrong("a port", "a port", port))?;
    Ok(Address::new(Host::parse(name), number))
}

fn offset_of(item: &Reply) -> Result<Option<u64>, WireError> {
    let n = item
        .number()
        .ok_or_else(|| wrong("an offset", "a number", item))?;
    Ok(u64::try_from(n).ok())
}

/// An offset that is known: a primary, and a replica that is connected, always have one.
fn known_offset(item: &Reply) -> Result<u64, WireError> {
    offset_of(item)?.ok_or_else(|| wrong("an offset", "a number that is not negative", item))
}

fn wrong(field: &'static str, what: &'static str, near: &Reply) -> WireError {
    let near = near.excerpt();
    WireError::new(Command::Role, None, field, Fault::IsNot(what), &near)
}
