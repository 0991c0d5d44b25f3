//! Why a server that does not start as it was made is not made anew.

use shardwright_topology::{Observed, Process, Server};

use crate::refused::linked_by;
use crate::{Authority, Desired};

/// Why a server is not made anew, as it would be made by now.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum NoReplace {
    /// The servers are not ours to make.
    NotManaged,
    /// It starts as it was made, or would be made just so again.
    NotOutdated,
    /// It speaks, or its process runs.
    Lives,
    /// Others have a link to the node that lived there: what its host says is old.
    Linked,
    /// Its host does not report: what it said last may be old.
    HostAway,
    /// It was told to end: it is made anew by itself.
    Leaving,
}

/// Why a server is not made anew, if it is not. Its disk stays, and it has never run where it is: so nothing is lost, and no
/// other server need be waited for.
pub fn why_not_replace(d: &Desired, o: &Observed, server: &Server) -> Option<NoReplace> {
    if d.authority != Authority::Managed {
        return Some(NoReplace::NotManaged);
    }
    if !o.outdated.contains_key(&server.name) {
        return Some(NoReplace::NotOutdated);
    }
    if server.view.known().is_some() || server.process == Process::Running {
        return Some(NoReplace::Lives);
    }
    if server.recorded_id.is_some_and(|id| linked_by(o, id) > 0) {
        return Some(NoReplace::Linked);
    }
    if server.place.away_since.is_some() {
        return Some(NoReplace::HostAway);
    }
    server.leaving.then_some(NoReplace::Leaving)
}
