//! Slots move between real servers by the engine's own doing.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shardwright_engine::movers::{End, MoveError, Outcome, Pair, native};
use shardwright_testkit::{Load, LoadOptions, TestResult, each_engine};

#[path = "moving/stage.rs"]
#[expect(dead_code, reason = "what only the key-wise moves need")]
mod stage;

use stage::{Stage, fill, range, unheard};

/// Jobs as large as they come.
fn many(_: Option<u32>) -> u64 {
    500_000
}

fn is_done(out: &Outcome) {
    assert!(matches!(out.end, End::Done), "{out:?}");
    assert!(out.left_open.is_empty() && out.untold.is_empty(), "{out:?}");
}

each_engine! {
    [valkey_9_1]
    async fn slots_move_by_themselves_while_clients_write(engine) {
        let stage = Stage::set(&engine, 3, 1, |b| b).await?;
        let slots = range(0, 2500).union(&range(3000, 3100));
        fill(&stage.cluster[0], &range(0, 300), 50, 50).await?;
        let options = LoadOptions { slots: vec![1, 150, 2400, 3050, 6000], ..LoadOptions::default() };
        let load = Load::start(&stage.cluster.addresses(), options);
        load.until_more(300, Duration::from_secs(20)).await?;
        let mut jobs = 0;
        let asked = Mutex::new(Vec::new());
        let job_keys = |asked_per_s| {
            asked.lock().expect("nobody panicked").push(asked_per_s);
            many(asked_per_s)
        };
        let out = native(&stage.pair(), &slots, &job_keys, &|| false, &mut |_| jobs += 1).await;
        is_done(&out);
        let asked = asked.into_inner()?;
        assert!(asked.iter().all(|per_s| per_s.is_some_and(|n| n > 0)), "{asked:?}");
        load.until_more(300, Duration::from_secs(20)).await?;
        let report = load.stop().await;
        assert_eq!(report.lost(&stage.cluster.addresses()).await?, []);
        assert_eq!((jobs, &out.moved.slots), (2, &slots));
        assert!(out.moved.keys >= 301 * 50);
        assert_eq!(stage.keys(0, &slots).await?, 0);
        assert!(stage.keys(1, &slots).await? >= 301 * 50);
        stage.cluster.until_agreed().await?;
        stage.is_given(&slots).await
    }
}

each_engine! {
    [valkey_9_1]
    async fn a_move_that_its_target_has_no_room_for_is_cancelled(engine) {
        let stage = Stage::set(&engine, 2, 0, |b| b).await?;
        let slots = range(0, 499);
        fill(&stage.cluster[0], &slots, 50, 4000).await?;
        let target = &stage.cluster[1];
        let used: u64 = target.field(&["INFO", "memory"], "used_memory").await?.ok_or("told")?.parse()?;
        target.ask::<()>(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await?;
        target.ask::<()>(&["CONFIG", "SET", "maxmemory", &(used + 8_000_000).to_string()]).await?;
        let careful = Pair { keeps_limit: true, ..stage.pair() };
        let out = native(&careful, &slots, &many, &|| false, &mut unheard).await;
        // The target itself may give the job up first: it takes nothing beyond its limit then.
        let full = |end: &End| {
            matches!(
                end,
                End::Failed(MoveError::NoRoom { .. } | MoveError::Evicts { .. } | MoveError::Job { .. })
            )
        };
        assert!(full(&out.end), "{out:?}");
        assert_eq!(stage.keys(0, &slots).await?, 25_000, "what was not given is all there");
        stage.is_closed().await
    }
}

each_engine! {
    [valkey_9_1]
    async fn a_cancelled_move_is_all_or_nothing(engine) {
        let stage = Stage::set(&engine, 2, 0, |b| b).await?;
        let slots = range(0, 99);
        fill(&stage.cluster[0], &slots, 1000, 100).await?;
        // Asked first before the job, then by each look at it.
        let asked = AtomicBool::new(false);
        let stop = || asked.swap(true, Ordering::Relaxed);
        let out = native(&stage.pair(), &slots, &many, &stop, &mut unheard).await;
        let counts = (stage.keys(0, &slots).await?, stage.keys(1, &slots).await?);
        match out.end {
            End::Stopped => {
                assert!(out.moved.slots.is_empty());
                assert_eq!(counts, (100_000, 0));
                is_done(&native(&stage.pair(), &slots, &many, &|| false, &mut unheard).await);
            }
            End::Done => assert_eq!(counts, (0, 100_000)),
            End::Failed(why) => return Err(why.into()),
        }
        stage.is_closed().await?;
        // With nothing to cancel.
        assert!(!stage.clients[0].cancel_slot_migrations().await?);
        Ok(())
    }
}

each_engine! {
    [valkey_9_1]
    async fn a_move_that_fails_says_why(engine) {
        let stage = Stage::set(&engine, 2, 0, |b| b).await?;
        let slots = range(0, 99);
        fill(&stage.cluster[0], &slots, 20, 4000).await?;
        let used: u64 = stage.cluster[1].field(&["INFO", "memory"], "used_memory").await?.ok_or("told")?.parse()?;
        let max = (used + 2_000_000).to_string();
        stage.cluster[1].ask::<()>(&["CONFIG", "SET", "maxmemory", &max]).await?;
        let out = native(&stage.pair(), &slots, &many, &|| false, &mut unheard).await;
        let End::Failed(MoveError::Job { said, .. }) = out.end else {
            return Err(format!("{out:?}").into());
        };
        assert!(!said.is_empty());
        assert_eq!(stage.keys(0, &slots).await?, 2000);

        stage.cluster[1].ask::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await?;
        let slot = shardwright_topology::Slot::new(5)?;
        stage.clients[0].set_slot(slot, shardwright_engine::SetSlot::MigratingTo(stage.ids[1])).await?;
        let out = native(&stage.pair(), &slots, &many, &|| false, &mut unheard).await;
        assert!(matches!(out.end, End::Failed(MoveError::NotClean { .. })), "{out:?}");
        stage.clients[0].set_slot(slot, shardwright_engine::SetSlot::Stable).await?;
        is_done(&native(&stage.pair(), &slots, &many, &|| false, &mut unheard).await);
        assert_eq!(stage.keys(1, &slots).await?, 2000);
        Ok(())
    }
}

each_engine! {
    [valkey_9_1]
    async fn the_user_of_replication_needs_rights_at_the_target(engine) {
        let lines = [
            "user default on nopass ~* &* +@all",
            "user copy on >copy +psync +replconf +ping",
            "user mover on >mover ~* +psync +replconf +ping +cluster|syncslots +@write +select +function +multi +exec",
        ];
        let stage = Stage::set(&engine, 2, 0, |b| b.acl(lines)).await?;
        let slots = range(0, 99);
        fill(&stage.cluster[0], &slots, 20, 50).await?;
        let enter = async |user: &str| -> TestResult {
            stage.clients[0].config_set(&[("masteruser", user), ("masterauth", user)]).await?;
            Ok(())
        };
        enter("copy").await?;
        let out = native(&stage.pair(), &slots, &many, &|| false, &mut unheard).await;
        let End::Failed(MoveError::Job { said, .. }) = out.end else {
            return Err(format!("{out:?}").into());
        };
        assert!(said.contains("permission") || said.contains("NOPERM"), "{said}");
        enter("mover").await?;
        is_done(&native(&stage.pair(), &slots, &many, &|| false, &mut unheard).await);
        assert_eq!(stage.keys(1, &slots).await?, 2000);
        Ok(())
    }
}
