//! What is between the shards that are there and those that are declared: which primaries become the heads of new
//! shards, and which shards give up their slots.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use shardwright_topology::{Member, NodeId, Observed, Place, Role, ServerName, Source};

use crate::evidence::{Unburdened, in_sync};
use crate::{Authority, Desired, Request, Shape};

/// How the shards differ from the declared ones. Nothing where it is not for the planner to change their number.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Reshaping {
    /// Primaries without slots that are to become shards.
    pub(crate) heads: BTreeSet<NodeId>,
    /// Primaries whose slots go to others, so that they are no shards any more.
    pub(crate) drains: BTreeSet<NodeId>,
    /// A replica that its shard does not need, where a new shard has replicas to come but no head: it becomes a new node.
    pub(crate) frees: Option<NodeId>,
    /// How many free nodes new shards need: there, and in all. Only where there are too few.
    pub(crate) missing: Option<(usize, usize)>,
}

/// Finds how the shards differ from the declared ones, from what is there alone: broken off and begun anew, it comes
/// to the same.
pub(crate) fn reshaping(
    d: &Desired,
    o: &Observed,
    ours: &BTreeSet<NodeId>,
    surplus: &BTreeSet<ServerName>,
) -> Reshaping {
    let mut out = Reshaping::default();
    let Some((shards, replicas)) = ours_to_reshape(d, o) else {
        return out;
    };
    let look = Look {
        o,
        ours,
        surplus,
        replicas,
    };
    let voters: Vec<&Member> = o.voters().collect();
    if voters.len() > shards {
        out.drains = look.drains(&voters, voters.len() - shards);
    } else if voters.len() < shards && !voters.is_empty() && o.uncovered().is_empty() {
        look.heads(&voters, shards - voters.len(), &mut out);
    }
    out
}

/// How many shards and replicas there should be, where the planner may change that.
pub(crate) fn ours_to_reshape(d: &Desired, o: &Observed) -> Option<(usize, usize)> {
    let Shape::Declared {
        shards,
        replicas_per_shard,
    } = d.shape
    else {
        return None;
    };
    let ours = d.authority == Authority::Managed && o.formed.is_some();
    let asked = match &d.request {
        Some(Request::Form { .. } | Request::Leave { .. } | Request::Assign { .. }) => true,
        Some(Request::Promote { .. } | Request::Join { .. }) | None => false,
    };
    (ours && !asked).then_some((usize::from(shards), usize::from(replicas_per_shard)))
}

struct Look<'a> {
    o: &'a Observed,
    ours: &'a BTreeSet<NodeId>,
    surplus: &'a BTreeSet<ServerName>,
    replicas: usize,
}

impl Look<'_> {
    /// Whether a node has a server that stays.
    fn stays(&self, m: &Member) -> bool {
        let server = m.server.as_ref();
        server.is_some_and(|name| !self.surplus.contains(name))
    }

    /// How many of a primary's replicas stay.
    fn staying_replicas(&self, primary: NodeId) -> usize {
        let replicas = self.o.replicas_of(primary);
        replicas.filter(|r| self.stays(r)).count()
    }

    /// The shards with most members on servers that are too many, then those with the fewest slots: a shard that is half
    /// drained stays the one.
    fn drains(&self, voters: &[&Member], many: usize) -> BTreeSet<NodeId> {
        let goes = |m: &Member| m.server.is_some() && !self.stays(m);
        let going = |m: &Member| {
            let replicas = self.o.replicas_of(m.id).filter(|r| goes(r));
            replicas.count() + usize::from(goes(m))
        };
        let mut order: Vec<_> = voters
            .iter()
            .map(|m| (Reverse(going(m)), m.slots.count(), m.id))
            .collect();
        order.sort_unstable();
        order.into_iter().take(many).map(|(_, _, id)| id).collect()
    }

    /// Free primaries become the heads of new shards, once there are enough free nodes for their replicas too, and for
    /// those that the other shards lack.
    fn heads(&self, voters: &[&Member], many: usize, out: &mut Reshaping) {
        let mut free: Vec<(&Member, usize)> = self
            .o
            .members()
            .values()
            .filter(|m| m.role == Role::Primary && m.slots.is_empty())
            .filter(|m| m.source == Source::Itself && self.ours.contains(&m.id) && self.stays(m))
            .filter(|m| Unburdened::prove(self.o, m.id).is_some())
            .map(|m| (m, self.staying_replicas(m.id)))
            .collect();
        let have: Vec<usize> = voters.iter().map(|m| self.staying_replicas(m.id)).collect();
        let sum = |of: fn(usize, usize) -> usize| -> usize {
            have.iter().map(|n| of(*n, self.replicas)).sum()
        };
        let lack = sum(|have, want| want.saturating_sub(have));
        let more = sum(usize::saturating_sub);
        let attached: usize = free.iter().map(|(_, n)| n).sum();
        let want = many * (1 + self.replicas) + lack;
        let there = free.len() + attached + more;
        if there < want {
            out.missing = Some((there, want));
            return;
        }
        if free.len() < many {
            out.frees = self.spare(voters);
            let have = want - (many - free.len());
            out.missing = out.frees.is_none().then_some((have, want));
            return;
        }
        let mut taken: Vec<&Place> = voters.iter().filter_map(|m| self.place(m)).collect();
        for _ in 0..many {
            let rank = |(m, replicas): &(&Member, usize)| {
                let at = self.place(m);
                let beside = |same: fn(&Place, &Place) -> bool| {
                    taken
                        .iter()
                        .filter(|t| at.is_some_and(|a| same(a, t)))
                        .count()
                };
                let (host, zone) = (beside(Place::same_host), beside(Place::same_zone));
                let leave_rank = at.map(|a| a.leave_rank);
                (
                    Reverse((*replicas).min(self.replicas)),
                    host,
                    zone,
                    leave_rank,
                    m.server.clone(),
                )
            };
            let Some(i) = (0..free.len()).min_by_key(|i| rank(&free[*i])) else {
                return;
            };
            let (head, _) = free.remove(i);
            out.heads.insert(head.id);
            taken.extend(self.place(head));
        }
    }

    /// The last replica of the shard that has most beyond those it should have, if all that it keeps are in sync.
    fn spare(&self, voters: &[&Member]) -> Option<NodeId> {
        let copies = |m: &&Member| {
            let view = self.o.view_of(m.id);
            self.stays(m) && self.ours.contains(&m.id) && view.is_some_and(|v| in_sync(self.o, v))
        };
        let of =
            |m: &&Member| -> Vec<&Member> { self.o.replicas_of(m.id).filter(copies).collect() };
        let richest = voters.iter().map(of).max_by_key(Vec::len)?;
        let rank = |m: &&Member| self.place(m).map(|at| (at.leave_rank, m.id));
        let last = richest.iter().copied().max_by_key(rank)?;
        (richest.len() > self.replicas).then_some(last.id)
    }

    fn place(&self, m: &Member) -> Option<&Place> {
        self.o.server_of(m.id).map(|s| &s.place)
    }
}
