//! `CLUSTER LINKS`.

use std::collections::BTreeMap;

use super::error::{Command, Fault, WireError};
use super::reply::Reply;
use crate::NodeId;

/// Reads the reply to `CLUSTER LINKS` (Redis documentation, "CLUSTER LINKS"; Redis 7.0 and later, Valkey), of RESP2 or
/// RESP3: when each node's link to the speaker was made, in milliseconds of the speaker's clock. Links to others are
/// passed over, and so are unknown keys.
///
/// # Errors
/// Where a key that is needed is missing, or a value is malformed. The line is the link's place in the list.
pub fn parse_inbound_links(reply: &Reply) -> Result<BTreeMap<NodeId, u64>, WireError> {
    let wrong = |line, field, near: &Reply| {
        let fault = Fault::IsNot("of the known form");
        WireError::new(Command::ClusterLinks, line, field, fault, &near.excerpt())
    };
    let items = reply
        .list()
        .ok_or_else(|| wrong(None, "the reply", reply))?;
    let mut made = BTreeMap::new();
    for (i, item) in items.iter().enumerate() {
        let need = |name: &'static str| {
            let pairs = item.pairs().into_iter().flatten();
            let mut named = pairs.filter(|(key, _)| key.text() == Some(name.as_bytes()));
            let (_, value) = named.next().ok_or_else(|| wrong(Some(i + 1), name, item))?;
            Ok::<_, WireError>(value)
        };
        if need("direction")?.text() != Some(b"from") {
            continue;
        }
        let (node, at) = (need("node")?, need("create-time")?);
        let id = node.text().and_then(|text| NodeId::parse(text).ok());
        let id = id.ok_or_else(|| wrong(Some(i + 1), "node", node))?;
        let ms = at.number().and_then(|ms| u64::try_from(ms).ok());
        let ms = ms.ok_or_else(|| wrong(Some(i + 1), "create-time", at))?;
        // Of two links of one node, which there may be for a moment, the later one counts.
        let latest = made.entry(id).or_insert(ms);
        *latest = ms.max(*latest);
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(of: &str) -> Reply {
        Reply::Text(of.as_bytes().to_vec())
    }

    fn link(direction: &str, node: &str, at: i64) -> Vec<(Reply, Reply)> {
        vec![
            (text("direction"), text(direction)),
            (text("node"), text(node)),
            (text("create-time"), Reply::Int(at)),
            (text("events"), text("r")),
        ]
    }

    #[test]
    fn links_from_others_are_read_in_both_forms() {
        let (a, b) = ("a".repeat(40), "b".repeat(40));
        let flat = |pairs: Vec<(Reply, Reply)>| {
            Reply::List(pairs.into_iter().flat_map(|(k, v)| [k, v]).collect())
        };
        let reply = Reply::List(vec![
            flat(link("from", &a, 1_700)),
            Reply::Map(link("from", &b, 1_800)),
            Reply::Map(link("to", &a, 1_900)),
        ]);
        let made = parse_inbound_links(&reply).expect("both forms are read");
        let at = |id: &str| {
            made.get(&NodeId::parse(id.as_bytes()).expect("an id"))
                .copied()
        };
        assert_eq!((at(&a), at(&b)), (Some(1_700), Some(1_800)));
    }

    #[test]
    fn a_link_of_another_form_is_an_error() {
        for reply in [
            Reply::Nil,
            Reply::List(vec![Reply::Nil]),
            Reply::List(vec![Reply::Map(link("from", "short", 1))]),
            Reply::List(vec![Reply::Map(link("from", &"a".repeat(40), -1))]),
        ] {
            assert!(parse_inbound_links(&reply).is_err(), "{reply:?}");
        }
    }
}
