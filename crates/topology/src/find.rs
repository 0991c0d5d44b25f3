//! The node that a person means.

use crate::{NodeId, Observed, Server, ServerName};

/// Why no node is meant.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FindError {
    /// None is called so.
    #[error("no node {0:?} in this cluster")]
    None(String),
    /// Several are.
    #[error("several node ids begin with {0:?}; write more of it")]
    Several(String),
}

/// Finds a node by an id or its beginning, an address, or a server's name.
pub fn find_node(o: &Observed, text: &str) -> Result<NodeId, FindError> {
    let named = o
        .servers()
        .get(&ServerName(text.to_owned()))
        .and_then(Server::id);
    let by_address = || {
        let mut members = o.members().values();
        members
            .find(|m| m.address.to_string() == text)
            .map(|m| m.id)
    };
    if let Some(id) = named.or_else(by_address) {
        return Ok(id);
    }
    let lower = text.to_ascii_lowercase();
    let mut found = o
        .members()
        .keys()
        .filter(|id| !lower.is_empty() && id.to_string().starts_with(&lower));
    match (found.next(), found.next()) {
        (Some(id), None) => Ok(*id),
        (Some(_), Some(_)) => Err(FindError::Several(text.to_owned())),
        (None, _) => Err(FindError::None(text.to_owned())),
    }
}
