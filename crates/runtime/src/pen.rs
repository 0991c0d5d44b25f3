//! One pen: only one planner changes a cluster at a time.

use shardwright_engine::Error;
use shardwright_topology::{Observed, Role, ServerName};

use crate::Links;

/// How every connection of a changing run is named; what follows tells runs apart.
const PREFIX: &str = "shardwright/";

/// Another planner is at work, or it can't be told.
#[derive(Debug, thiserror::Error)]
pub enum PenError {
    /// Another run changes this cluster.
    #[error(
        "another shardwright ({pen}) is changing this cluster, seen at {server}; wait until it is done"
    )]
    Taken {
        /// Its name.
        pen: String,
        /// Where it was seen.
        server: ServerName,
    },
    /// A server did not say who is connected.
    #[error("cannot tell whether another shardwright is changing this cluster")]
    Unknown(#[from] Error),
}

/// The name of a new run, from a number that no other run has.
pub fn new_pen(unique: u128) -> String {
    format!("{PREFIX}{unique:032x}")
}

/// Refuses to go on when another run is connected to any primary. Our own connections are named already, so of two
/// that start at once at least one sees the other.
pub async fn refuse_second_pen(links: &Links, o: &Observed) -> Result<(), PenError> {
    for member in o.members().values().filter(|m| m.role == Role::Primary) {
        let Some(server) = o.server_of(member.id) else {
            continue;
        };
        let (Some(address), true) = (server.address.known(), server.view.known().is_some()) else {
            continue;
        };
        let names = links
            .client(&server.name, address)
            .await?
            .client_names()
            .await?;
        let other = names
            .into_iter()
            .find(|n| n.starts_with(PREFIX) && Some(n.as_str()) != links.pen());
        if let Some(pen) = other {
            return Err(PenError::Taken {
                pen,
                server: server.name.clone(),
            });
        }
    }
    Ok(())
}
