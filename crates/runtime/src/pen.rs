//! One pen: only one planner changes a cluster at a time.

use shardwright_engine::Error;
use shardwright_topology::{Observed, Role, ServerName};

use crate::Links;

/// How every connection of a changing run is named; what follows tells runs apart.
const PREFIX: &str = "shardwright/";

/// How those of a run for a local cluster are named. Of these the lock of the state directory lets only one be.
const LOCAL_PREFIX: &str = "shardwright/local-";

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

/// The name of a new run for a local cluster.
pub fn name_of_local_run(unique: u128) -> String {
    format!("{LOCAL_PREFIX}{unique:032x}")
}

/// Whether a connection of this name is another run's that must not be, seen from the run of the name `own`. A run for
/// a local cluster has its lock: others of that kind have ended, and their connections are about to.
fn is_other_run(name: &str, own: Option<&str>) -> bool {
    let both_local =
        own.is_some_and(|own| own.starts_with(LOCAL_PREFIX)) && name.starts_with(LOCAL_PREFIX);
    name.starts_with(PREFIX) && Some(name) != own && !both_local
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
            .find(|name| is_other_run(name, links.pen()));
        if let Some(pen) = other {
            return Err(PenError::Taken {
                pen,
                server: server.name.clone(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_for_a_local_cluster_refuse_others_and_are_refused_by_others() {
        let (local, next, guest) = (name_of_local_run(1), name_of_local_run(2), new_pen(3));
        assert!(is_other_run(&local, Some(&guest)));
        assert!(is_other_run(&guest, Some(&local)));
        assert!(is_other_run(&guest, Some(&new_pen(4))));
        assert!(
            !is_other_run(&local, Some(&next)),
            "the lock tells them apart"
        );
        assert!(!is_other_run(&guest, Some(&guest)));
        assert!(!is_other_run("somebody", Some(&guest)));
    }
}
