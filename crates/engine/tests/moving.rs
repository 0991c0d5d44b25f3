//! Slots move between real servers, with their keys, while clients write.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use shardwright_engine::movers::{
    Allowance, Burst, End, MoveError, Moved, Outcome, Pair, Unclean, key_wise,
};
use shardwright_engine::{
    ACL_RULES, Access, Client, Credentials, Endpoint, Error, Secret, SetSlot,
};
use shardwright_testkit::{Cluster, Load, LoadOptions, Server, TestResult, each_engine};
use shardwright_topology::{Role, Slot, SlotSet};

#[path = "moving/stage.rs"]
mod stage;

use stage::{Stage, connect, fill, key, range, unheard, usual};

fn is_done(out: &Outcome) {
    assert!(matches!(out.end, End::Done), "{out:?}");
    assert!(out.left_open.is_empty() && out.untold.is_empty(), "{out:?}");
}

fn why(out: Outcome) -> MoveError {
    match out.end {
        End::Failed(why) => why,
        other => panic!("it ended by {other:?}"),
    }
}

/// Runs something to its end in the middle of a move.
fn meanwhile<F: Future>(what: F) -> F::Output {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(what))
}

/// Writes a key at the importing end, as a client does that was sent there.
async fn write_asking(server: &Server, key: &str, value: &str) -> TestResult {
    let mut connection = server.connection().await?;
    let mut pipe = redis::pipe();
    pipe.cmd("ASKING").cmd("SET").arg(key).arg(value);
    pipe.exec_async(&mut connection).await?;
    Ok(())
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn slots_move_while_clients_write(engine) {
        let stage = Stage::set(&engine, 3, 1, |b| b).await?;
        let slots = range(100, 399);
        fill(&stage.cluster[0], &slots, 40, 50).await?;
        let options = LoadOptions { slots: vec![100, 150, 163, 250, 399, 5000, 6000], ..LoadOptions::default() };
        let load = Load::start(&stage.cluster.addresses(), options);
        load.until_more(500, Duration::from_secs(20)).await?;
        let mut heard = 0;
        let pair = stage.pair();
        let out = key_wise(&pair, &slots, &mut usual, &|| false, &mut |moved| heard = moved.keys).await;
        is_done(&out);
        load.until_more(500, Duration::from_secs(20)).await?;
        let report = load.stop().await;
        assert_eq!(report.lost(&stage.cluster.addresses()).await?, []);
        assert_eq!(out.moved.slots, slots);
        assert!(out.moved.keys >= 12_000 && heard == out.moved.keys, "{:?}", out.moved);
        assert!(out.moved.bytes > 12_000 * 50);
        assert_eq!(stage.keys(0, &slots).await?, 0);
        assert!(stage.keys(1, &slots).await? >= 12_000);
        stage.is_given(&slots).await
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn slots_without_keys_move(engine) {
        let stage = Stage::set(&engine, 3, 0, |b| b).await?;
        let slots = range(0, 999);
        let out = stage.move_all(&slots).await;
        is_done(&out);
        assert_eq!((out.moved.slots.count(), out.moved.keys), (1000, 0));
        stage.is_given(&slots).await
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_slot_of_very_many_keys_moves(engine) {
        let stage = Stage::set(&engine, 2, 0, |b| b).await?;
        let slots = range(7, 7);
        fill(&stage.cluster[0], &slots, 100_000, 20).await?;
        let out = stage.move_all(&slots).await;
        is_done(&out);
        assert_eq!(out.moved.keys, 100_000);
        assert_eq!(stage.keys(1, &slots).await?, 100_000);
        stage.is_given(&slots).await
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_great_value_and_times_to_live_move_too(engine) {
        let stage = Stage::set(&engine, 2, 0, |b| b).await?;
        let slots = range(7, 9);
        let source = &stage.cluster[0];
        fill(source, &slots, 200, 20).await?;
        source.ask::<()>(&["SETRANGE", &key(8, 500), "50000000", "x"]).await?;
        source.ask::<()>(&["PEXPIRE", &key(7, 1), "100000000"]).await?;
        source.ask::<()>(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]).await?;
        for n in 0..200 {
            source.ask::<()>(&["PEXPIRE", &key(9, n), "1"]).await?;
        }
        let mut most = 0;
        let mut pace = |last: Option<&Burst>| {
            let great = last.filter(|last| last.bytes > 1 << 20);
            most = most.max(great.map_or(0, |last| last.keys));
            usual(last)
        };
        let out = key_wise(&stage.pair(), &slots, &mut pace, &|| false, &mut unheard).await;
        is_done(&out);
        assert_eq!(most, 1, "the great one went alone");
        let target = &stage.cluster[1];
        assert_eq!(target.ask::<u64>(&["STRLEN", &key(8, 500)]).await?, 50_000_001);
        assert!(target.ask::<i64>(&["PTTL", &key(7, 1)]).await? > 90_000_000);
        assert_eq!(target.ask::<i64>(&["PTTL", &key(7, 2)]).await?, -1);
        assert_eq!(stage.keys(1, &range(9, 9)).await?, 0, "they expired");
        stage.is_given(&slots).await
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_target_whose_limit_is_kept_deletes_nothing(engine) {
        let stage = Stage::set(&engine, 2, 0, |b| b).await?;
        let slots = range(0, 99);
        fill(&stage.cluster[0], &slots, 50, 4000).await?;
        let target = &stage.cluster[1];
        let used: u64 = target.field(&["INFO", "memory"], "used_memory").await?.ok_or("told")?.parse()?;
        target.ask::<()>(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await?;
        target.ask::<()>(&["CONFIG", "SET", "maxmemory", &(used + 8_000_000).to_string()]).await?;
        let careful = Pair { keeps_limit: true, ..stage.pair() };
        let out = key_wise(&careful, &slots, &mut usual, &|| false, &mut unheard).await;
        let End::Failed(MoveError::NoRoom { evicts: true, .. }) = out.end else {
            return Err(format!("{out:?}").into());
        };
        assert!(out.moved.keys > 500, "{out:?}");
        assert_eq!(stage.keys(0, &slots).await? + stage.keys(1, &slots).await?, 5_000);
        assert_eq!(target.field(&["INFO", "stats"], "evicted_keys").await?.as_deref(), Some("0"));
        // Where a person agreed to it, it goes on, and the target deletes.
        let rest = slots.difference(&out.moved.slots).difference(&out.left_open);
        let out = key_wise(&stage.pair(), &rest, &mut usual, &|| false, &mut unheard).await;
        is_done(&out);
        assert!(stage.keys(0, &slots).await? + stage.keys(1, &slots).await? < 5_000);
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_full_target_stops_it_and_nothing_is_lost(engine) {
        let stage = Stage::set(&engine, 2, 0, |b| b).await?;
        let (first, second) = (range(0, 49), range(50, 299));
        let slots = first.union(&second);
        fill(&stage.cluster[0], &first, 10, 10).await?;
        fill(&stage.cluster[0], &second, 20, 4000).await?;
        let used: u64 = stage.cluster[1].field(&["INFO", "memory"], "used_memory").await?.ok_or("told")?.parse()?;
        let max = (used + 8_000_000).to_string();
        stage.cluster[1].ask::<()>(&["CONFIG", "SET", "maxmemory", &max]).await?;
        let out = stage.move_all(&slots).await;
        assert!(matches!(out.end, End::Failed(MoveError::TargetFull { .. })), "{out:?}");
        assert!(out.moved.slots.count() >= 50, "{out:?}");
        // Those that are half moved are open at both ends, towards each other; the others closed.
        let open = stage.open(0).await?;
        assert_eq!(open, stage.open(1).await?);
        assert_eq!(open, out.left_open);
        assert!(open.count() <= 2, "{open}");
        for slot in open.slots() {
            assert!(stage.keys(0, &range(slot.number().into(), slot.number().into())).await? > 0);
        }
        let all = stage.keys(0, &slots).await? + stage.keys(1, &slots).await?;
        assert_eq!(all, 50 * 10 + 250 * 20);
        stage.cluster[1].ask::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await?;
        if !open.is_empty() {
            let error = why(stage.move_all(&open).await);
            assert!(matches!(error, MoveError::NotClean { why: Unclean::Open, .. }), "{error}");
        }
        let rest = slots.difference(&out.moved.slots).difference(&open);
        is_done(&stage.move_all(&rest).await);
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn a_slot_that_is_not_clean_is_refused(engine) {
        let stage = Stage::set(&engine, 2, 0, |b| b).await?;
        let slot = Slot::new(20)?;
        let slots = range(14, 21);
        let (source, target) = (&stage.clients[0], &stage.clients[1]);
        fill(&stage.cluster[0], &slots, 3, 10).await?;

        target.set_slot(slot, SetSlot::ImportingFrom(stage.ids[0])).await?;
        let out = stage.move_all(&slots).await;
        assert!(out.left_open.is_empty());
        assert!(matches!(why(out), MoveError::NotClean { slot: s, why: Unclean::Open, .. } if s == slot));

        write_asking(&stage.cluster[1], &key(20, 7), "here").await?;
        target.set_slot(slot, SetSlot::Stable).await?;
        let error = why(stage.move_all(&slots).await);
        assert!(matches!(error, MoveError::NotClean { why: Unclean::Holds(1), .. }), "{error}");

        let error = why(stage.move_all(&range(16_000, 16_000)).await);
        assert!(matches!(error, MoveError::NotOwner { .. }), "{error}");
        source.set_slot(slot, SetSlot::MigratingTo(stage.ids[1])).await?;
        let error = why(stage.move_all(&slots).await);
        assert!(matches!(error, MoveError::NotClean { why: Unclean::Open, .. }), "{error}");
        assert_eq!(stage.keys(0, &slots).await?, 8 * 3);
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_stop_leaves_no_slot_open(engine) {
        let stage = Stage::set(&engine, 3, 0, |b| b).await?;
        let slots = range(0, 199);
        fill(&stage.cluster[0], &slots, 30, 20).await?;
        let moved = AtomicU64::new(0);
        let stop = || moved.load(Ordering::Relaxed) >= 3000;
        let mut pace = |last: Option<&_>| Allowance { keys: 50, ..usual(last) };
        let mut heard = |so_far: &Moved| {
            // The first slots go by themselves: so many keys, and those of the load.
            let first = 8 * 30 + 200;
            if moved.swap(so_far.keys, Ordering::Relaxed) <= first && so_far.keys > first {
                // A client that was sent to the target wrote a key of a slot that no key has left.
                meanwhile(write_asking(&stage.cluster[1], &key(60, 999), "new")).expect("it is open");
            }
        };
        let load = Load::start(&stage.cluster.addresses(), LoadOptions { slots: vec![1, 90, 110, 127, 150], ..LoadOptions::default() });
        let out = key_wise(&stage.pair(), &slots, &mut pace, &stop, &mut heard).await;
        assert!(matches!(out.end, End::Stopped), "{out:?}");
        assert!(out.left_open.is_empty(), "{out:?}");
        let taken = out.moved.slots.count();
        assert!((64..=140).contains(&taken), "{}", out.moved.slots);
        let report = load.stop().await;
        assert_eq!(report.lost(&stage.cluster.addresses()).await?, []);
        stage.is_given(&out.moved.slots).await?;
        let kept = slots.difference(&out.moved.slots);
        assert!(stage.view(0).await?.own().is_some_and(|own| kept.difference(&own.slots).is_empty()));
        assert_eq!((stage.keys(0, &out.moved.slots).await?, stage.keys(1, &kept).await?), (0, 0));
        is_done(&stage.move_all(&kept).await);
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn the_last_slot_can_go(engine) {
        let stage = Stage::set(&engine, 4, 0, |b| b.config("cluster-allow-replica-migration", "yes")).await?;
        let own = stage.view(0).await?.own().map(|own| own.slots.clone()).ok_or("a row")?;
        fill(&stage.cluster[0], &range(0, 100), 5, 10).await?;
        let out = stage.move_all(&own).await;
        is_done(&out);
        assert_eq!(out.moved.slots, own);
        assert_eq!(stage.keys(1, &own).await?, 101 * 5);
        let role = stage.view(0).await?.own().map(|own| own.role);
        assert_eq!(role, Some(Role::Replica));
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_key_at_both_ends_is_replaced_only_with_proof(engine) {
        let stage = Stage::set(&engine, 2, 0, |b| b).await?;
        let plant = async |slot: u16| {
            fill(&stage.cluster[0], &range(slot.into(), slot.into()), 10, 20).await?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(key(slot, 5))
        };
        let (one, two) = (plant(11).await?, plant(12).await?);
        let mut pace = |last: Option<&_>| {
            meanwhile(write_asking(&stage.cluster[1], &one, "old")).expect("it is open");
            usual(last)
        };
        let out = key_wise(&stage.pair(), &range(11, 11), &mut pace, &|| false, &mut unheard).await;
        is_done(&out);
        let value: String = stage.cluster[1].ask(&["GET", &one]).await?;
        assert_eq!(value, "x".repeat(20));

        // Somebody closed it at the source: what the target has may be newer.
        let mut pace = |last: Option<&_>| {
            meanwhile(write_asking(&stage.cluster[1], &two, "new")).expect("it is open");
            meanwhile(stage.clients[0].set_slot(Slot::new(12).expect("a slot"), SetSlot::Stable)).expect("done");
            usual(last)
        };
        let out = key_wise(&stage.pair(), &range(12, 12), &mut pace, &|| false, &mut unheard).await;
        assert_eq!(out.left_open, range(12, 12));
        // Only that key is held up: all others of its slot have moved.
        assert!(matches!(why(out), MoveError::BothSides { keys, .. } if keys == [two.clone()]));
        assert_eq!(stage.keys(0, &range(12, 12)).await?, 1);
        let mut connection = stage.cluster[1].connection().await?;
        let (value,): (String,) = redis::pipe().cmd("ASKING").ignore().cmd("GET").arg(&two).query_async(&mut connection).await?;
        assert_eq!(value, "new");
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn the_named_rules_are_enough_and_less_is_told(engine) {
        let rules = ACL_RULES.join(" ");
        let user = |name, less| format!("user {name} on >{name} -@all {rules} {less}");
        let (own, weak) = (user("own", ""), user("weak", "-restore-asking"));
        let blind = user("blind", "-memory");
        let lines = ["user default on nopass ~* &* +@all".to_owned(), own, weak, blind];
        let stage = Stage::set(&engine, 2, 0, |b| b.acl(lines.clone())).await?;
        let (slots, more) = (range(10, 30), range(31, 40));
        fill(&stage.cluster[0], &slots.union(&more), 10, 20).await?;
        // Without MEMORY the size of keys is guessed.
        for (user, missing, slots) in [("weak", "restore-asking", &slots), ("blind", "", &more), ("own", "", &slots)] {
            let credentials = Credentials { user: Some(user.into()), password: Secret::new(user) };
            let access = Access { credentials: Some(credentials.clone()), ..Access::default() };
            let source = connect(&stage.cluster[0], &access).await?;
            let target = connect(&stage.cluster[1], &access).await?;
            let pair = Pair {
                source: &source, reader: &source, probe: &source, target: &target, credentials: Some(&credentials), ..stage.pair()
            };
            let out = key_wise(&pair, slots, &mut usual, &|| false, &mut unheard).await;
            if missing.is_empty() {
                is_done(&out);
            } else {
                assert!(out.left_open.is_empty(), "{out:?}");
                let error = why(out).to_string();
                assert!(error.contains(missing), "{error}");
                stage.is_closed().await?;
            }
        }
        stage.is_given(&slots.union(&more)).await
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_stranger_is_told_and_nothing_stays_open(engine) {
        let mut cluster = Cluster::formed(&engine, 2, 0, |b| b).await?;
        cluster.servers.push(Server::builder(&engine).cluster().start()?);
        let stage = Stage::of(cluster, 3).await?;
        let pair = Pair {
            target: &stage.clients[2], to: stage.ids[2], ..stage.pair()
        };
        let out = key_wise(&pair, &range(0, 10), &mut usual, &|| false, &mut unheard).await;
        assert!(out.left_open.is_empty(), "{out:?}");
        assert!(matches!(why(out), MoveError::Stranger { .. }));
        stage.is_closed().await?;
        assert!(stage.open(2).await?.is_empty());
        assert_eq!(SlotSet::empty(), stage.open(0).await?);
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_target_that_freezes_does_not_block_the_source_for_long(engine) {
        let mut stage = Stage::set(&engine, 2, 0, |b| b).await?;
        let slots = range(0, 199);
        fill(&stage.cluster[0], &slots, 20, 20).await?;
        // Short limits, as usual ones are.
        stage.clients[1] = Client::connect(&stage.target_at, &Access::default()).await?;
        let frozen = AtomicBool::new(false);
        let mut pace = |last: Option<&_>| {
            if last.is_some() && !frozen.swap(true, Ordering::Relaxed) {
                stage.cluster[1].freeze().expect("it lives");
            }
            usual(last)
        };
        let begun = Instant::now();
        let out = key_wise(&stage.pair(), &slots, &mut pace, &|| false, &mut unheard).await;
        stage.cluster[1].thaw()?;
        let Error::TimedOut { command: "PING", .. } = (match why(out) {
            MoveError::Node(error) => error,
            other => return Err(other.into()),
        }) else {
            return Err("another error".into());
        };
        assert!(begun.elapsed() < Duration::from_secs(60));
        // Nothing is lost: what was sent and not confirmed may be at both ends.
        let all = stage.keys(0, &slots).await? + stage.keys(1, &slots).await?;
        assert!(all >= 200 * 20, "{all}");
        assert_eq!(stage.open(0).await?, stage.open(1).await?);
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn two_nodes_give_to_one_at_the_same_time(engine) {
        let stage = Stage::set(&engine, 3, 0, |b| b).await?;
        let (near, far) = (range(0, 299), range(12_000, 12_299));
        fill(&stage.cluster[0], &near, 20, 20).await?;
        fill(&stage.cluster[2], &far, 20, 20).await?;
        let options = LoadOptions { slots: vec![5, 200, 12_005, 12_200], ..LoadOptions::default() };
        let load = Load::start(&stage.cluster.addresses(), options);
        let pair = Pair { others: &stage.clients[2..], ..stage.pair() };
        let other = Pair {
            source: &stage.clients[2],
            reader: &stage.clients[2],
            probe: &stage.clients[2],
            from: stage.ids[2],
            others: &stage.clients[..1],
            ..pair
        };
        // One of them as among clients: neither waits for the other without end.
        let mut pace = usual;
        let mut other_pace = |last: Option<&Burst>| Allowance { alone: true, ..usual(last) };
        let (mut heard, mut other_heard) = (unheard, unheard);
        let (one, two) = tokio::join!(
            key_wise(&pair, &near, &mut pace, &|| false, &mut heard),
            key_wise(&other, &far, &mut other_pace, &|| false, &mut other_heard)
        );
        is_done(&one);
        is_done(&two);
        stage.cluster.until_agreed().await?;
        let report = load.stop().await;
        assert_eq!(report.lost(&stage.cluster.addresses()).await?, []);
        assert!(stage.keys(1, &near.union(&far)).await? >= 12_000);
        stage.is_given(&near.union(&far)).await
    }
}

each_engine! {
    [valkey_9_1]
    async fn keys_of_another_database_are_not_left_behind(engine) {
        let stage = Stage::set(&engine, 2, 0, |b| b.config("cluster-databases", "2")).await?;
        fill(&stage.cluster[0], &range(11, 11), 10, 20).await?;
        let there = Endpoint::new(stage.cluster[0].host(), stage.cluster[0].port());
        let client = Client::connect_to_database(&there, &Access::default(), 1).await?;
        client.call(&[b"SET".to_vec(), key(11, 5).into_bytes(), b"v".to_vec()]).await?;
        let mut pace = usual;
        let out = key_wise(&stage.pair(), &range(11, 11), &mut pace, &|| false, &mut unheard).await;
        assert!(out.left_open.is_empty());
        assert!(matches!(why(out), MoveError::SeveralDatabases { database: 1, keys: 1, .. }));
        assert_eq!((stage.keys(0, &range(11, 11)).await?, stage.keys(1, &range(11, 11)).await?), (10, 0));
        let none = Client::connect_to_database(&there, &Access::default(), 2).await;
        assert!(none.expect_err("there are two").is_no_database());
        Ok(())
    }
}
