//! A cluster that somebody lets ours meet by mistake: afterwards ours is whole again, or it is named what is not.

use shardwright_planner::Waiting;
use shardwright_sim::ModelWorld;
use shardwright_sim::facts::Profile;
use shardwright_sim::script::{Form, World};
use shardwright_topology::Observed;

const PROFILES: [Profile; 2] = [Profile::Redis70, Profile::Valkey9];

/// Three shards with a replica each, and keys in all.
fn formed(profile: Profile) -> ModelWorld {
    let mut world = ModelWorld::new(profile);
    let form = Form {
        shards: 3,
        replicas: 1,
        hosts: Vec::new(),
        aof: true,
        keep_every_write: false,
    };
    world.form(&form).expect("it is formed");
    world.write(60).expect("keys are written");
    world
}

/// Every slot is owned by a node of ours, and nobody lists another.
fn is_whole(o: &Observed) -> bool {
    o.uncovered().is_empty() && o.members().values().all(|m| m.server.is_some())
}

#[test]
fn while_the_copies_are_slow_no_key_is_lost() {
    for profile in PROFILES {
        for ms in [50, 400, 1_500, 6_000] {
            let mut world = formed(profile);
            world.meet_another("n0", ms, 30_000).expect("n0 answers");
            let waits = world.settle().expect("nothing is done wrong");
            let steps = world.steps();
            assert_eq!(waits, [], "{profile:?} {ms}: {steps:?}");
            let o = world.observe().expect("it can be looked at");
            assert!(
                is_whole(&o),
                "{profile:?} {ms}: {steps:?} {:?}",
                o.members()
            );
            let (written, lost) = world.keys().expect("keys can be counted");
            assert_eq!((written, lost), (60, 0), "{profile:?} {ms}: {steps:?}");
        }
    }
}

#[test]
fn what_was_copied_already_is_healed_or_named() {
    for profile in PROFILES {
        for ms in [50, 1_000, 4_000, 10_000] {
            let mut world = formed(profile);
            world.meet_another("n0", ms, 0).expect("n0 answers");
            let waits = world.settle().expect("nothing is done wrong");
            let o = world.observe().expect("it can be looked at");
            let met = |w: &Waiting| matches!(w, Waiting::ForeignNodesMet(_));
            let named = waits.iter().any(met);
            let healed = waits.is_empty() && is_whole(&o);
            assert!(
                healed || named,
                "{profile:?} {ms}: {waits:?} {:?}",
                world.steps()
            );
        }
    }
}
