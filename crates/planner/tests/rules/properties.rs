//! Properties of every plan, over arbitrary observations: lost directories, twins, strangers, silence, old beliefs,
//! open slots, colliding epochs. A gene of 0 is the healthy choice, so that a failure shrinks to what matters.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use shardwright_planner::safety::{
    may_set_aside, unheard_sibling, why_not_forget, why_not_move, why_not_recreate, why_not_remove,
    why_not_replace, why_not_spread, why_not_start, why_not_switch_over,
};
use shardwright_planner::{
    Action, Authority, Desired, FailoverPolicy, Limits, Manner, Plan, Reason, Request, Shape,
    Standing, check, layout, plan, standings,
};
use shardwright_topology::{
    AttemptKind, Claim, Death, DeathProof, Disk, Flags, Health, NodeId, Observed, OpenSlot,
    OutdatedStart, Process, Role, Seen, ServerName, SlotSet, Tied, Timestamp, Why,
};

use crate::world::{NOW, Node, World, claims, id, slot, slots};

const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// One node's genes.
type Genes = [u8; 16];

fn settings() -> ProptestConfig {
    ProptestConfig {
        cases: 6_000,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(5),
        ..ProptestConfig::default()
    }
}

/// A node's number by a gene; numbers beyond the last are nodes that nobody is.
fn named(gene: u8) -> NodeId {
    match NAMES.get(usize::from(gene % 9)) {
        Some(name) => id(name),
        None => id("nobody"),
    }
}

fn why(gene: u8) -> Why {
    match gene % 3 {
        0 => Why::TimedOut,
        1 => Why::Refused,
        _ => Why::Loading,
    }
}

fn disk(gene: u8) -> Seen<Disk> {
    Seen::Known(match gene % 8 {
        0 => Disk::Log,
        1 => Disk::Blank,
        2 => Disk::CleanSnapshot,
        3 => claims(1),
        4 => Disk::Stale {
            claim: Claim::Nothing,
        },
        5 => Disk::TableRefused,
        6 => Disk::DataRefused,
        _ => return Seen::Unknown(Why::NotAsked),
    })
}

/// A quarter of the slots, or none; halves and odd ranges for rarer genes.
fn owned(gene: u8) -> SlotSet {
    let quarter = u64::from(gene % 4) * 4_096;
    match gene {
        0..=159 => slots(quarter, quarter + 4_095),
        160..=175 => slots(0, 8_191),
        176..=191 => slots(7, 7),
        _ => SlotSet::empty(),
    }
}

/// The healthy start: `a`, `b`, `c` own the slots, `d`, `e`, `f` copy them, `g` and `h` are new.
fn born(w: &mut World, number: usize) -> &mut Node {
    let node = w.add(NAMES[number]);
    match number {
        0..3 => {
            node.slots = layout(3)[number].into();
            node.epoch = [1, 2, 3][number];
            (node.offset, node.keys) = (5_000, 100);
        }
        3..6 => {
            node.primary = Some(id(NAMES[number - 3]));
            node.epoch = [1, 2, 3][number - 3];
            (node.offset, node.keys) = (5_000, 100);
        }
        _ => {}
    }
    node.island = Some(0);
    node.place.leave_rank = u32::try_from(number).unwrap_or(u32::MAX);
    node
}

/// Changes a node by its genes; 0 changes nothing.
fn express(node: &mut Node, genes: Genes) {
    let [
        role,
        which,
        epoch,
        island,
        life,
        proof,
        store,
        recorded,
        twin,
        keys,
        count,
        open,
        sync,
        age,
        host,
        pin,
    ] = genes;
    if role % 3 == 1 {
        node.primary = Some(named(which));
        node.slots = SlotSet::empty();
    } else if role % 3 == 2 {
        node.primary = None;
        node.slots = owned(which);
    }
    if epoch > 0 {
        node.epoch = u64::from(epoch % 8);
    }
    node.island = match island % 8 {
        0..=5 => node.island,
        6 => Some(1),
        _ => None,
    };
    if life % 4 == 3 {
        fall_silent(node, proof);
    }
    node.disk = disk(store);
    node.recorded = match recorded % 8 {
        0..=5 => Some(node.id),
        6 => None,
        _ => Some(named(recorded / 8)),
    };
    if twin > 245 {
        node.id = named(twin);
    }
    if keys > 0 {
        node.keys = u64::from(keys % 4);
    }
    for number in [7, 100] {
        if count % 3 < 2 {
            let keys = u64::from(count / 3 % 3);
            node.keys_in_slot.insert(slot(number), keys);
        }
    }
    match open % 6 {
        4 => node.open.push(OpenSlot::Migrating {
            slot: slot(7),
            to: named(open / 6),
        }),
        5 => node.open.push(OpenSlot::Importing {
            slot: slot(7),
            from: named(open / 6),
        }),
        _ => {}
    }
    node.offset = [node.offset, 0, 1, 4_000][usize::from(sync % 4)];
    node.syncing = sync % 16 == 15;
    node.link_up = sync % 8 != 7;
    node.uptime_s = [Some(600), Some(0), Some(3), None][usize::from(age % 4)];
    node.place.host = (host % 5 != 4).then(|| format!("host-{}", host % 5));
    let away_since = (pin % 3 == 2).then(|| Timestamp(NOW - u64::from(pin) * 100));
    let tied = node.place.host.clone().filter(|_| pin % 3 > 0);
    node.place.away_since = away_since;
    node.place.tied = tied.map(|host| Tied { host, away_since });
}

/// It is dead, by proof, or it may be anything.
fn fall_silent(node: &mut Node, proof: u8) {
    node.silent = Some(why(proof));
    node.process = match proof % 3 {
        0 => Process::Unknown,
        1 => Process::Dead(Death {
            proof: DeathProof::ChildReaped,
            since: Timestamp(NOW - u64::from(proof) * 40),
        }),
        _ => Process::Running,
    };
    node.housed = proof % 7 != 6;
}

fn world(nodes: &[Genes], beliefs: &[[u8; 4]], asked: &[[u8; 3]]) -> World {
    let mut w = World::empty();
    for (number, genes) in nodes.iter().enumerate() {
        express(born(&mut w, number), *genes);
    }
    for [speaker, about, what, value] in beliefs.iter().copied() {
        let pick = |gene: u8| {
            nodes
                .len()
                .checked_sub(1)
                .map(|last| usize::from(gene) % (last + 1))
        };
        let (Some(speaker), Some(about)) = (pick(speaker), pick(about)) else {
            continue;
        };
        w.believes(NAMES[speaker], NAMES[about], move |row| match what % 6 {
            0 => row.health = Health::Failed,
            1 => row.flags = row.flags.with(Flags::NOADDR),
            2 => row.flags = row.flags.with(Flags::HANDSHAKE),
            3 => row.address.port = 9_000 + u16::from(value),
            4 => {
                row.role = Role::Replica;
                row.primary = Some(named(value));
                row.slots = SlotSet::empty();
            }
            _ => row.slots = owned(value),
        });
    }
    for [node, kind, age] in asked.iter().copied() {
        let kind = match kind % 3 {
            0 => AttemptKind::Failover,
            1 => AttemptKind::Takeover,
            _ => AttemptKind::Switchover,
        };
        w.asked(NAMES[usize::from(node % 8)], kind, u64::from(age) * 10);
    }
    w
}

fn desired([authority, shape, policy, consent, request, whom, how]: [u8; 7]) -> Desired {
    let server = || ServerName(NAMES[usize::from(whom % 8)].to_owned());
    Desired {
        shape: match shape % 4 {
            0 => Shape::AsFound,
            n => Shape::Declared {
                shards: u16::from(n) + 1,
                replicas_per_shard: u16::from(shape / 4 % 3),
            },
        },
        authority: if authority % 3 > 0 {
            Authority::Managed
        } else {
            Authority::Guest
        },
        failover: if policy % 2 == 0 {
            FailoverPolicy::Availability
        } else {
            FailoverPolicy::KeepEveryWrite
        },
        recreate_after_ms: (shape >= 64).then_some(10_000),
        consent: shardwright_planner::Consent {
            lose_data: consent % 3 == 2,
            force_memory: false,
            primary_is_dead: consent % 5 == 4,
        },
        moves_paused: consent % 7 == 6,
        request: match request % 8 {
            3 => Some(Request::Form {
                order: NAMES.map(|n| ServerName(n.to_owned())).to_vec(),
            }),
            4 => Some(Request::Promote {
                node: named(whom),
                manner: [Manner::Switchover, Manner::Force, Manner::Takeover][usize::from(how % 3)],
            }),
            5 => Some(Request::Join {
                server: server(),
                replica: how % 2 == 0,
                of: (how % 3 == 0).then(|| named(how)),
            }),
            6 => Some(Request::Leave { node: named(whom) }),
            7 => Some(Request::Assign {
                goal: vec![(named(whom), owned(how))],
            }),
            _ => None,
        },
    }
}

/// All nodes that must live for an action to make sense.
fn relies_on(action: &Action) -> Vec<NodeId> {
    let mut nodes: Vec<NodeId> = action.at().into_iter().collect();
    match action {
        Action::Meet { target, .. }
        | Action::MoveKeys { to: target, .. }
        | Action::MoveSlots { to: target, .. } => {
            nodes.push(target.node());
        }
        Action::Replicate { primary, .. } | Action::Switchover { primary, .. } => {
            nodes.push(*primary);
        }
        Action::AssignSlot { owner, .. } => nodes.push(*owner),
        Action::StartServer { .. }
        | Action::StartAfresh { .. }
        | Action::Recreate { .. }
        | Action::Replace { .. }
        | Action::RemoveServer { .. }
        | Action::RecordFormed
        | Action::SetConfigEpoch { .. }
        | Action::AddSlots { .. }
        | Action::Failover { .. }
        | Action::Takeover { .. }
        | Action::Forget { .. }
        | Action::Reset { .. }
        | Action::RaiseEpoch { .. }
        | Action::CopyFunctions { .. }
        | Action::SetElectable { .. }
        | Action::CloseSlot { .. } => {}
    }
    nodes
}

/// Why a step of the plan contradicts a safety reason, if one does.
fn unsafe_step(made: &Plan, d: &Desired, o: &Observed) -> Option<String> {
    let limits = Limits::default();
    made.steps.iter().find_map(|step| {
        let now = Timestamp(NOW);
        let spreads = matches!(step.because, Reason::Crowded(_));
        if spreads && (why_not_spread(d, o, &limits, now).is_some() || made.steps.len() > 1) {
            return Some(step.to_string());
        }
        let bad = match &step.action {
            Action::StartServer { server } => {
                !matches!(
                    step.because,
                    Reason::RestartFirst | Reason::RestartImporter | Reason::RestartAhead
                ) && why_not_start(d, o, &o.servers()[server]).is_some()
            }
            Action::StartAfresh { server } => !may_set_aside(o, &o.servers()[server]),
            Action::Recreate { server, .. } => {
                why_not_recreate(d, o, &o.servers()[server]).is_some()
            }
            Action::Replace { server, .. } => why_not_replace(d, o, &o.servers()[server]).is_some(),
            Action::RemoveServer { server } => {
                !why_not_remove(d, o, &o.servers()[server]).is_empty()
            }
            Action::Forget { gone, .. } => why_not_forget(d, o, gone.node()).is_some(),
            Action::Switchover { replica, .. } => {
                !why_not_switch_over(o, &limits, *replica, now).is_empty()
            }
            Action::Takeover { dead, .. } => {
                step.because != Reason::Asked && unheard_sibling(o, dead.node()).is_some()
            }
            Action::RecordFormed
            | Action::SetConfigEpoch { .. }
            | Action::AddSlots { .. }
            | Action::Meet { .. }
            | Action::Replicate { .. }
            | Action::Failover { .. }
            | Action::Reset { .. }
            | Action::CloseSlot { .. }
            | Action::CopyFunctions { .. }
            | Action::SetElectable { .. }
            | Action::AssignSlot { .. }
            | Action::RaiseEpoch { .. }
            | Action::MoveKeys { .. } => false,
            Action::MoveSlots { from, to, slots } => {
                !why_not_move(d, o, *from, to.node(), slots).is_empty()
            }
        };
        bad.then(|| step.to_string())
    })
}

/// What is seen where some servers do not start as they were made, by the genes of their nodes.
fn outdated(mut o: Observed, nodes: &[Genes]) -> Observed {
    for (name, genes) in NAMES.iter().zip(nodes) {
        let sum = genes
            .iter()
            .fold(0, |sum: u8, gene| sum.wrapping_add(*gene));
        let name = ServerName((*name).to_owned());
        if sum % 4 == 3 && o.servers().contains_key(&name) {
            let start = OutdatedStart {
                made_from: "old".to_owned(),
                why: "it can't".to_owned(),
            };
            o.outdated.insert(name, start);
        }
    }
    o
}

/// Genes of which most change nothing.
fn mild() -> BoxedStrategy<Genes> {
    prop::array::uniform16(prop_oneof![7 => Just(0), 1 => any::<u8>()]).boxed()
}

/// Nodes, old beliefs, attempts, what is desired, and whether it was formed.
type Case = (Vec<Genes>, Vec<[u8; 4]>, Vec<[u8; 3]>, [u8; 7], bool);

fn genes() -> impl Strategy<Value = Case> {
    (
        prop::collection::vec(prop_oneof![9 => mild(), 1 => any::<Genes>().boxed()], 0..9),
        prop::collection::vec(any::<[u8; 4]>(), 0..6),
        prop::collection::vec(any::<[u8; 3]>(), 0..3),
        any::<[u8; 7]>(),
        any::<bool>(),
    )
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn every_plan_is_sound((nodes, beliefs, asked, wanted, formed) in genes()) {
        let mut w = world(&nodes, &beliefs, &asked);
        w.formed = formed;
        let d = desired(wanted);
        let limits = Limits::default();
        let o = outdated(w.observe(), &nodes);
        let made = plan(&d, &o, &limits, Timestamp(NOW));

        // The same again, whatever the order in which the servers come.
        let mut servers = w.servers();
        servers.reverse();
        let reversed = outdated(w.observe_in(servers), &nodes);
        let reversed = plan(&d, &reversed, &limits, Timestamp(NOW));
        prop_assert_eq!(format!("{made:?}"), format!("{reversed:?}"));

        let found = check(&made, &d, &o);
        prop_assert!(found.is_empty(), "{:?} in {:#?}", found, made);

        for step in &made.steps {
            for node in relies_on(&step.action) {
                prop_assert!(o.view_of(node).is_some(), "{} is not heard: {}", node.short(), step);
            }
        }
        // What strangers say is not weighed by the plan; here it would be.
        let strange = |s: &Standing| matches!(s, Standing::Foreign(_));
        if !standings(&d, &o).values().any(strange) {
            prop_assert_eq!(unsafe_step(&made, &d, &o), None);
        }

        // No step twice.
        let texts: BTreeSet<String> = made.steps.iter().map(|s| format!("{:?}", s.action)).collect();
        prop_assert_eq!(texts.len(), made.steps.len(), "{:#?}", made.steps);

        // Whoever promises to be settled has every slot covered by someone who was heard, or no cluster at all.
        if made.is_settled() && d.request.is_none() && !o.members().is_empty() && d.authority == Authority::Managed {
            prop_assert!(o.uncovered().is_empty(), "{:?}", o.members());
            prop_assert!(o.voters().all(|m| o.view_of(m.id).is_some()));
        }
    }
}
