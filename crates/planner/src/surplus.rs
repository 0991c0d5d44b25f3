//! Servers beyond those that the declared shape needs.

use shardwright_topology::{Observed, Server, ServerName};

use crate::{Authority, Desired, Shape};

/// How many servers the declared shape needs; `None` where it is not ours to take any away.
pub(crate) fn wanted(d: &Desired, o: &Observed) -> Option<usize> {
    let Shape::Declared {
        shards,
        replicas_per_shard,
    } = d.shape
    else {
        return None;
    };
    let ours = d.authority == Authority::Managed && o.formed.is_some();
    ours.then(|| usize::from(shards) * (1 + usize::from(replicas_per_shard)))
}

/// The names of the servers that are too many by the declared shape, the first to go first.
pub fn too_many(d: &Desired, o: &Observed) -> Vec<ServerName> {
    let servers = surplus(d, o).into_iter();
    servers.map(|server| server.name.clone()).collect()
}

/// The servers that are too many: those whose rank is beyond the wanted number. The first is the first to go.
pub(crate) fn surplus<'a>(d: &Desired, o: &'a Observed) -> Vec<&'a Server> {
    let Some(wanted) = wanted(d, o).filter(|wanted| o.servers().len() > *wanted) else {
        return Vec::new();
    };
    let beyond = |s: &&Server| usize::try_from(s.place.leave_rank).is_ok_and(|r| r >= wanted);
    let mut all: Vec<&Server> = o.servers().values().filter(beyond).collect();
    all.sort_by_key(|s| std::cmp::Reverse((s.place.leave_rank, &s.name)));
    all
}
