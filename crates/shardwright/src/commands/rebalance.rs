//! `rebalance`: as many slots for each shard, or as many keys, or as much memory; or as much as weights say.

use std::collections::{BTreeMap, BTreeSet};

use shardwright_planner::balance::{ByLoad, Outside, Owned, Transfer, by_load, even, quotas};
use shardwright_planner::{Request, Shape};
use shardwright_runtime::{Held, Keeper, Runtime, slot_loads};
use shardwright_topology::{NodeId, Observed, Role, SlotSet, Source};

use super::change;
use crate::cli::{By, Login, MoveRun, Rebalance};
use crate::connect::{AnyKeeper, Purpose, find_node, open};
use crate::exit::{ExitStatus, Refusal, UsageError};
use crate::handover::{self, hand_over_at};
use crate::printer::Printer;
use crate::report::place;
use crate::requests::Control;
use crate::status::bytes;
use crate::target::Target;

/// A cluster needs a majority of its primaries: with fewer than three, the loss of one is the loss of all.
pub(super) const SHARDS_MIN: usize = 3;
/// Why nothing is to be done in a declared cluster.
const KEPT_EVEN: &str = "[OK] nothing to do: a declared cluster is kept even by itself";
/// What a weight of 1 is here: weights have up to three decimals.
const ONE: u32 = 1_000;

pub(super) async fn run(
    args: Rebalance,
    login: &Login,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let target: Target = args.target.target.parse()?;
    let declared =
        "a declared cluster has as many slots in each shard, and would be evened out by that again";
    match &target {
        Target::Kubernetes(key) => {
            let text = format!("k8s:{key} needs no rebalance: its operator keeps it even");
            return Err(UsageError(text).into());
        }
        Target::Local(_) if !args.weights.is_empty() || args.by != By::Slots => {
            return Err(UsageError(declared.to_owned()).into());
        }
        Target::Local(_) | Target::Member(_) => {}
    }
    let dir = args.target.dir.as_deref();
    let request = handover::Request::Rebalance {
        timeout_s: args.run.timeout,
        pace: args.run.pace.into(),
    };
    if !args.run.dry_run
        && let Some(status) = hand_over_at(&target, dir, request, out).await?
    {
        return Ok(status);
    }
    let purpose = purpose(&args.run);
    let (mut keeper, observed) =
        open(&target, args.target.dir.clone(), login, purpose, out).await?;
    change::keep_pace(&mut keeper, &args.run.pace);
    if let Target::Local(_) = target {
        return even_declared(&mut keeper, &observed, &args.run, out).await;
    }
    all_served(&observed)?;
    let owned: Owned = observed.voters().map(|m| (m.id, m.slots.clone())).collect();
    let stay = takers(&observed, args.use_empty_primaries);
    let weights = weights(&observed, &stay, &args.weights)?;
    let wanted = quotas(&owned, &stay, &weights);
    if wanted.values().filter(|quota| **quota > 0).count() < SHARDS_MIN {
        let text = format!(
            "fewer than {SHARDS_MIN} shards would have slots, and a cluster needs {SHARDS_MIN}"
        );
        return Err(Refusal(text).into());
    }
    let held = match args.by {
        By::Slots => None,
        By::Keys => Some(Held::Keys),
        By::Memory => Some(Held::Memory),
    };
    if let Some(held) = held {
        let loads = slot_loads(keeper.links(), &observed, held).await?;
        let found = by_load(&owned, &stay, &weights, &loads.loads, args.threshold);
        return by_what_is_held(
            &mut keeper,
            &observed,
            (held, loads.estimated),
            &found,
            &args,
            out,
        )
        .await;
    }
    if is_even(&owned, &wanted, args.threshold) {
        let text = format!(
            "[OK] nothing to do: no shard is further than {} % from its part",
            args.threshold
        );
        out.say(&text);
        return Ok(ExitStatus::Success);
    }
    let goal = goal(&even(&owned, &stay, &weights));
    let done = "[OK] all shards have their part of the slots";
    assign(&mut keeper, goal, &args.run, done, out).await
}

/// By keys or by memory: says what can't be evened out, and moves the rest.
async fn by_what_is_held(
    keeper: &mut AnyKeeper,
    o: &Observed,
    (held, estimated): (Held, bool),
    found: &ByLoad,
    args: &Rebalance,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let what = match held {
        Held::Keys => "keys",
        Held::Memory => "memory",
    };
    if estimated {
        out.say("The memory of slots is estimated: these servers tell it only for all their keys.");
    }
    for outside in &found.outside {
        out.warn(&why_outside(o, held, outside));
    }
    if found.transfers.is_empty() {
        let near = "no shard is further than";
        let text = if found.outside.is_empty() {
            format!(
                "[OK] nothing to do: {near} {} % from its part of the {what}",
                args.threshold
            )
        } else {
            "[OK] nothing to do: no slot can move without taking another shard too far from its part"
                .to_owned()
        };
        out.say(&text);
        return Ok(ExitStatus::Success);
    }
    let done = if found.outside.is_empty() {
        format!("[OK] all shards have their part of the {what}")
    } else {
        format!("[OK] all shards are as near to their part of the {what} as whole slots allow")
    };
    assign(keeper, goal(&found.transfers), &args.run, &done, out).await
}

/// Why a shard stays further from its part than it may be.
fn why_outside(o: &Observed, held: Held, outside: &Outside) -> String {
    let amount = |n: u64| match held {
        Held::Keys => format!("{n} keys"),
        Held::Memory => bytes(n),
    };
    let Outside {
        node,
        load,
        part,
        hottest,
    } = *outside;
    let stays = format!(
        "{} stays at {}, and its part is {}",
        place(o, node),
        amount(load),
        amount(part)
    );
    match hottest {
        Some((slot, most)) if load > part => {
            format!(
                "{stays}: a slot can't be divided, and its slot {slot} alone has {}",
                amount(most)
            )
        }
        Some(_) | None => format!("{stays}: the others have no slot that fits"),
    }
}

/// Whether a verb that moves slots changes anything.
pub(super) fn purpose(run: &MoveRun) -> Purpose {
    if run.dry_run {
        Purpose::Read
    } else {
        Purpose::Change
    }
}

/// Moves slots to their new owners, or shows that.
pub(super) async fn assign(
    keeper: &mut AnyKeeper,
    goal: Vec<(NodeId, SlotSet)>,
    run: &MoveRun,
    done: &str,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let desired = keeper.desired().clone();
    keeper.set_desired(desired.with(Request::Assign { goal: goal.clone() }));
    if run.dry_run {
        return change::dry_run(keeper, out).await;
    }
    change::must_be_possible(keeper).await?;
    let owns = |o: &Observed| {
        goal.iter().all(|(node, slots)| {
            let to = o.primary_of(*node);
            to.is_some() && slots.slots().all(|slot| o.owner(slot) == to)
        })
    };
    change::carry_out_alone_until(keeper, run.timeout, done, owns, out).await
}

/// Whether a declared cluster has all its shards, and as many slots in each.
fn is_even_as_declared<R: Runtime>(keeper: &Keeper<R>, o: &Observed) -> anyhow::Result<bool> {
    let owned: Owned = o.voters().map(|m| (m.id, m.slots.clone())).collect();
    let stay: BTreeSet<NodeId> = owned.keys().copied().collect();
    let Shape::Declared { shards, .. } = keeper.desired().shape else {
        return Err(anyhow::anyhow!("a declared cluster has no shape"));
    };
    let complete = o.uncovered().is_empty() && stay.len() == usize::from(shards);
    Ok(complete && even(&owned, &stay, &BTreeMap::new()).is_empty())
}

/// What a declared cluster lacks is done, or shown.
async fn even_declared(
    keeper: &mut AnyKeeper,
    o: &Observed,
    run: &MoveRun,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    if !run.dry_run {
        return even_out(keeper, run.timeout, &mut Control::signals(), out).await;
    }
    if is_even_as_declared(keeper, o)? {
        out.done(KEPT_EVEN);
        return Ok(ExitStatus::Success);
    }
    change::dry_run(keeper, out).await
}

/// A declared cluster is kept even by whoever works on it: what lacks is done.
pub(super) async fn even_out<R: Runtime>(
    keeper: &mut Keeper<R>,
    timeout_s: u64,
    control: &mut Control<'_>,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let observed = keeper.observe().await?;
    if is_even_as_declared(keeper, &observed)? {
        out.done(KEPT_EVEN);
        return Ok(ExitStatus::Success);
    }
    let done = "[OK] all shards have as many slots, as in any declared cluster";
    change::carry_out(keeper, timeout_s, done, control, out).await
}

/// Slots without an owner that was heard can't be moved, and would spoil every division.
pub(super) fn all_served(o: &Observed) -> anyhow::Result<()> {
    if o.uncovered().is_empty() {
        return Ok(());
    }
    let text = format!(
        "nobody owns slots {}; mend that first: shardwright fix",
        o.uncovered()
    );
    Err(Refusal(text).into())
}

/// Those that are to own slots.
fn takers(o: &Observed, empty_too: bool) -> BTreeSet<NodeId> {
    let owners = o.voters().map(|m| m.id);
    let empty = o.members().values().filter(|m| {
        empty_too
            && m.role == Role::Primary
            && m.slots.is_empty()
            && m.source == Source::Itself
            && o.beliefs(m.id).any(|(speaker, _)| speaker != m.id)
    });
    owners.chain(empty.map(|m| m.id)).collect()
}

fn weights(
    o: &Observed,
    stay: &BTreeSet<NodeId>,
    given: &[String],
) -> anyhow::Result<BTreeMap<NodeId, u32>> {
    let mut weights: BTreeMap<NodeId, u32> = stay.iter().map(|id| (*id, ONE)).collect();
    let mut seen = BTreeSet::new();
    for text in given {
        let wrong = || UsageError(format!("{text:?} is no weight; write NODE=WEIGHT"));
        let (node, weight) = text.rsplit_once('=').ok_or_else(wrong)?;
        let weight = thousandths(weight).ok_or_else(wrong)?;
        let id = find_node(o, node)?;
        // One that was drained has none, and may be a replica by now.
        let drained = weight == 0 && o.member(id).is_none_or(|m| m.slots.is_empty());
        if !drained {
            must_be_primary(o, id)?;
        }
        if !seen.insert(id) {
            return Err(UsageError(format!("{} has two weights", place(o, id))).into());
        }
        let Some(kept) = weights.get_mut(&id) else {
            if drained {
                continue;
            }
            let text = format!(
                "{} has no slots; let it have some: --use-empty-primaries",
                place(o, id)
            );
            return Err(UsageError(text).into());
        };
        *kept = weight;
    }
    Ok(weights)
}

/// A number with up to three decimals, 0 to 1000, in thousandths.
fn thousandths(text: &str) -> Option<u32> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 3 {
        return None;
    }
    let part: u32 = format!("{part:0<3}").parse().ok()?;
    let whole: u32 = whole.parse().ok().filter(|whole| *whole <= 1_000)?;
    Some(whole * ONE + part)
}

/// Only primaries own slots.
pub(super) fn must_be_primary(o: &Observed, id: NodeId) -> anyhow::Result<()> {
    if o.member(id).is_some_and(|m| m.role == Role::Primary) {
        return Ok(());
    }
    let text = format!("{} is a replica; name a primary", place(o, id));
    Err(UsageError(text).into())
}

/// Whether nobody is further from its part than so many percent of it.
fn is_even(owned: &Owned, wanted: &BTreeMap<NodeId, u16>, percent: u32) -> bool {
    let has = |id: &NodeId| owned.get(id).map_or(0, SlotSet::count);
    let near =
        |has: u16, quota: u16| u32::from(has.abs_diff(quota)) * 100 <= u32::from(quota) * percent;
    let all: BTreeSet<&NodeId> = owned.keys().chain(wanted.keys()).collect();
    all.into_iter()
        .all(|id| near(has(id), wanted.get(id).copied().unwrap_or(0)))
}

/// Who is to get what.
pub(super) fn goal(transfers: &[Transfer]) -> Vec<(NodeId, SlotSet)> {
    let mut goal: BTreeMap<NodeId, SlotSet> = BTreeMap::new();
    for t in transfers {
        let slots = goal.entry(t.to).or_default();
        *slots = slots.union(&t.slots);
    }
    goal.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use shardwright_topology::SlotRange;

    use super::*;

    #[test]
    fn weights_have_up_to_three_decimals() {
        assert_eq!(thousandths("2"), Some(2_000));
        assert_eq!(thousandths("0.5"), Some(500));
        assert_eq!(thousandths("1.005"), Some(1_005));
        for wrong in ["", ".", "-1", "1.", ".5", "1.0005", "1001", "x", "1e3"] {
            assert_eq!(thousandths(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_near_enough_is_left_alone() {
        let id = |n| NodeId::from_bytes([n; 20]);
        let set = |first, last| {
            [SlotRange::new(first, last).expect("slots")]
                .into_iter()
                .collect()
        };
        let owned: Owned = [(id(1), set(0, 101)), (id(2), set(102, 199))].into();
        let wanted = [(id(1), 100), (id(2), 100)].into();
        assert!(is_even(&owned, &wanted, 2));
        assert!(!is_even(&owned, &wanted, 1));
        assert!(!is_even(&owned, &[(id(1), 200), (id(2), 0)].into(), 100));
    }
}
