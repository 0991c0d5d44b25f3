//! Whether primaries are on one host that could be apart: every choice of roles is tried.

use std::collections::BTreeMap;

use shardwright_topology::Place;

use crate::history::History;

/// How many primaries each host holds, by its name.
type Held<'a> = BTreeMap<&'a str, usize>;

impl History {
    /// No host holds so many of the primaries that the others are no majority, where another choice of roles would avoid
    /// that and place no shard's copies worse.
    pub(super) fn primaries_together(&self) -> Option<String> {
        if !self.setting.managed || self.setting.hosts < 2 {
            return None;
        }
        let living = || self.nodes().filter(|(i, _)| self.model.answers(*i));
        let mut shards: Vec<Vec<&Place>> = Vec::new();
        for (i, primary) in living().filter(|(_, n)| n.me().votes()) {
            let replicas = living().filter(|(_, r)| r.me().primary == Some(primary.id));
            let copies = [i].into_iter().chain(replicas.map(|(i, _)| i));
            let copies: Vec<&Place> = copies.map(|i| &self.model.seats[i].place).collect();
            shards.push(as_good(&copies));
        }
        let now: Vec<Vec<&Place>> = shards.iter().map(|s| s[..1].to_vec()).collect();
        let now = fullest(&now, &mut Held::new())?;
        let best = fullest(&shards, &mut Held::new())?;
        let no_majority = |held: usize| 2 * held >= shards.len();
        (no_majority(now) && !no_majority(best)).then(|| {
            let of = shards.len();
            format!("a host holds {now} of {of} primaries, and could hold {best}")
        })
    }
}

/// Of a shard's copies, the primary first, the places at which the primary would be with the copies placed as well as now.
fn as_good<'a>(copies: &[&'a Place]) -> Vec<&'a Place> {
    let now = cost(copies, 0);
    let leads = (0..copies.len()).filter(|lead| cost(copies, *lead) <= now);
    leads.map(|lead| copies[lead]).collect()
}

/// What it costs if this copy leads: replicas on its host, pairs of replicas on one host, and the same for zones.
fn cost(copies: &[&Place], lead: usize) -> [usize; 4] {
    let mut replicas = copies.to_vec();
    let primary = replicas.remove(lead);
    let mut sum = [0; 4];
    for (i, at) in replicas.iter().enumerate() {
        sum[0] += usize::from(at.same_host(primary));
        sum[2] += usize::from(at.same_zone(primary));
        for other in &replicas[i + 1..] {
            sum[1] += usize::from(at.same_host(other));
            sum[3] += usize::from(at.same_zone(other));
        }
    }
    sum
}

/// How many primaries the fullest host holds at least, wherever each shard's primary is of these places; none where no host
/// is known.
fn fullest<'a>(shards: &[Vec<&'a Place>], held: &mut Held<'a>) -> Option<usize> {
    let Some((first, others)) = shards.split_first() else {
        return held.values().copied().max();
    };
    let mut best: Option<usize> = None;
    for place in first {
        let host = place.host.as_deref()?;
        *held.entry(host).or_insert(0) += 1;
        let most = fullest(others, held);
        if let Some(count) = held.get_mut(host) {
            *count -= 1;
        }
        best = best.into_iter().chain(most).min();
    }
    best
}
