//! `reshard`: slots of some shards go to another.

use std::collections::BTreeSet;

use shardwright_planner::balance::{Owned, Transfer, last};
use shardwright_topology::{NodeId, Observed, SlotRange, SlotSet};

use super::change;
use super::rebalance::{SHARDS_MIN, all_served, assign, goal, must_be_primary, purpose};
use crate::cli::{Login, Reshard};
use crate::connect::{find_node, open};
use crate::exit::{ExitStatus, Refusal, UsageError};
use crate::moves::{Move, Sum};
use crate::printer::Printer;
use crate::report::place;
use crate::target::Target;

pub(super) async fn run(
    args: Reshard,
    login: &Login,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let target: Target = args.target.parse()?;
    let wanted: Wanted = args.slots.parse()?;
    match &target {
        Target::Kubernetes(_) | Target::Local(_) => {
            let text = format!(
                "{} is a declared cluster, which is kept even: what is moved by hand would be evened out again; \
                 for more or fewer shards: shardwright scale {0} --shards N",
                args.target
            );
            return Err(UsageError(text).into());
        }
        Target::Member(_) => {}
    }
    let purpose = purpose(&args.run);
    let (mut keeper, mut observed) = open(&target, args.dir.clone(), login, purpose, out).await?;
    change::keep_pace(&mut keeper, &args.run.pace);
    all_served(&observed)?;
    let to = find_node(&observed, &args.to)?;
    must_be_primary(&observed, to)?;
    let from = sources(&observed, &args.from, to)?;
    if args.from != ["all"] && from.values().all(SlotSet::is_empty) {
        let told = |id: &NodeId| {
            let primary = must_be_primary(&observed, *id).is_ok();
            place(&observed, *id) + if primary { "" } else { " (a replica)" }
        };
        let names: Vec<String> = from.keys().map(told).collect();
        let names = names.join(", ");
        out.done(&format!("[OK] nothing to do: no slots at {names}"));
        return Ok(ExitStatus::Success);
    }
    let transfers = match wanted {
        Wanted::Count(count) => so_many(&from, to, count)?,
        Wanted::These(slots) => these(&observed, &from, to, &slots)?,
    };
    if transfers.is_empty() {
        out.done(&format!(
            "[OK] nothing to do: {} has these slots already",
            place(&observed, to)
        ));
        return Ok(ExitStatus::Success);
    }
    enough_stay(&observed, &transfers)?;
    if !args.run.dry_run && !args.yes {
        let wanted = transfers.iter().map(|t| (t.from, t.slots.clone()));
        keeper.measure(&wanted.collect(), &mut observed).await;
        let told = |t: &Transfer| Move::of(&observed, t.from, Some(t.to), &t.slots);
        let moves: Vec<Move> = transfers.iter().map(told).collect();
        for what in &moves {
            out.say(&format!("{}: {}", what.line(), what.amount()));
        }
        if let Some(sum) = Sum::of(&moves, &args.run.pace.budget()) {
            out.say(&sum.line());
        }
        if !out.confirm("Do you want to proceed with the proposed reshard plan?")? {
            out.declined("Nothing was changed.");
            return Ok(ExitStatus::Failure);
        }
    }
    let done = format!("[OK] {} has the slots", place(&observed, to));
    assign(&mut keeper, goal(&transfers), &args.run, &done, out).await
}

/// Which slots are meant.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Wanted {
    Count(u16),
    These(SlotSet),
}

impl std::str::FromStr for Wanted {
    type Err = UsageError;

    fn from_str(text: &str) -> Result<Self, UsageError> {
        let wrong = || {
            UsageError(format!(
                "--slots {text}: write how many (1 to 16384), or which: FIRST-LAST,... of 0 to 16383"
            ))
        };
        if !text.contains(['-', ',']) {
            let count = text.parse().ok();
            let count = count.filter(|n| (1..=shardwright_topology::SLOT_COUNT).contains(n));
            return count.map(Self::Count).ok_or_else(wrong);
        }
        let mut slots = SlotSet::empty();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
            let range = SlotRange::new(number(first)?, number(last)?);
            slots.insert(range.map_err(|_| wrong())?);
        }
        Ok(Self::These(slots))
    }
}

/// The slots of a node that was found among the members. Who is no member owns none.
fn owned_by(o: &Observed, id: NodeId) -> SlotSet {
    o.member(id)
        .map_or_else(SlotSet::empty, |m| m.slots.clone())
}

/// Who gives, with what each has. One that was drained may be a replica by now: where nobody has any, that is no error.
fn sources(o: &Observed, given: &[String], to: NodeId) -> anyhow::Result<Owned> {
    let slots_of = |id: NodeId| owned_by(o, id);
    if given == ["all"] {
        let others = o.voters().filter(|m| m.id != to);
        return Ok(others.map(|m| (m.id, m.slots.clone())).collect());
    }
    let mut from = Owned::new();
    for text in given {
        let id = find_node(o, text)?;
        if id == to {
            let text = format!("{} is to give slots to itself", place(o, id));
            return Err(UsageError(text).into());
        }
        from.insert(id, slots_of(id));
    }
    if from.values().any(|slots| !slots.is_empty()) {
        from.keys().try_for_each(|id| must_be_primary(o, *id))?;
    }
    Ok(from)
}

/// So many slots, of each its part.
fn so_many(from: &Owned, to: NodeId, count: u16) -> Result<Vec<Transfer>, UsageError> {
    let have: u32 = from.values().map(|s| u32::from(s.count())).sum();
    if u32::from(count) > have {
        return Err(UsageError(format!(
            "--slots {count} is more than the {have} that they have"
        )));
    }
    let part = |slots: &SlotSet| {
        let part = u32::from(slots.count()) * u32::from(count) / have.max(1);
        u16::try_from(part).unwrap_or(u16::MAX)
    };
    let mut rest = count - from.values().map(part).sum::<u16>();
    let mut out = Vec::new();
    for (from, slots) in from {
        let more = u16::from(rest > 0 && part(slots) < slots.count());
        rest -= more;
        let slots = last(slots, part(slots) + more);
        if !slots.is_empty() {
            let from = *from;
            out.push(Transfer { from, to, slots });
        }
    }
    Ok(out)
}

/// Just these slots, which must be theirs; those that the target has already stay.
fn these(
    o: &Observed,
    from: &Owned,
    to: NodeId,
    slots: &SlotSet,
) -> Result<Vec<Transfer>, UsageError> {
    let there = owned_by(o, to);
    let mut left = slots.difference(&there);
    let mut out = Vec::new();
    for (from, owned) in from {
        let slots = owned.intersection(&left);
        left = left.difference(&slots);
        if !slots.is_empty() {
            let from = *from;
            out.push(Transfer { from, to, slots });
        }
    }
    if left.is_empty() {
        Ok(out)
    } else {
        let text = format!("slots {left} are of none of those that --from names");
        Err(UsageError(text))
    }
}

/// A cluster keeps three shards at least.
fn enough_stay(o: &Observed, transfers: &[Transfer]) -> anyhow::Result<()> {
    let left = |id: NodeId, slots: &SlotSet| {
        let gone = transfers.iter().filter(|t| t.from == id);
        gone.fold(slots.clone(), |left, t| left.difference(&t.slots))
    };
    let stay = o.voters().filter(|m| !left(m.id, &m.slots).is_empty());
    let mut stay: BTreeSet<NodeId> = stay.map(|m| m.id).collect();
    stay.extend(transfers.iter().map(|t| t.to));
    if stay.len() >= SHARDS_MIN {
        return Ok(());
    }
    let text = format!(
        "{} shard(s) would have slots, and a cluster needs {SHARDS_MIN}",
        stay.len()
    );
    Err(Refusal(text).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> NodeId {
        NodeId::from_bytes([n; 20])
    }

    fn set(first: u64, last: u64) -> SlotSet {
        [SlotRange::new(first, last).expect("slots")]
            .into_iter()
            .collect()
    }

    #[test]
    fn slots_are_a_number_or_ranges() {
        let read = |text: &str| text.parse::<Wanted>().ok();
        assert_eq!(read("100"), Some(Wanted::Count(100)));
        let these: SlotSet = set(0, 99).union(&set(200, 200));
        assert_eq!(read("0-99,200"), Some(Wanted::These(these)));
        for wrong in [
            "",
            "0",
            "16385",
            "5-",
            "-5",
            "9-5",
            "16384-16384",
            "1,,2",
            "x",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn each_source_gives_its_part() {
        let from: Owned = [
            (id(1), set(0, 99)),
            (id(2), set(100, 399)),
            (id(3), SlotSet::empty()),
        ]
        .into();
        let counts = |count| {
            let moves = so_many(&from, id(9), count).expect("there are so many");
            moves.iter().map(|t| t.slots.count()).collect::<Vec<_>>()
        };
        assert_eq!(counts(200), [50, 150]);
        assert_eq!(counts(1), [1]);
        assert_eq!(counts(399), [100, 299]);
        assert_eq!(counts(400), [100, 300]);
        assert!(so_many(&from, id(9), 401).is_err());
    }
}
