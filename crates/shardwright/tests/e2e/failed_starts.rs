//! Servers that cannot start: why is told in the engine's words, with what repairs it, and a configuration is tried before
//! anything depends on it.

use std::fs;
use std::path::Path;

use shardwright_testkit::each_engine;

use crate::local::{Local, OK, Outcome};
use crate::lost_directories::Ended;
use crate::rig::{Ran, living_in, shell};

const TYPO: &str = "  config: {maxmemory-polic: noeviction}\n";
const BAD_DIRECTIVE: &str = "Bad directive or wrong number of arguments";

/// Runs `up` with another directory for temporary files.
fn up_with_temporary(local: &Local, dir: &Path) -> Ran {
    let port = local.ports.first().to_string();
    let mut command = local.home.command(&local.up_args(&port, &[]));
    command.env("TMPDIR", dir);
    local.home.finish(command)
}

/// Writes the manifest anew, with this in its `spec`.
fn declare(local: &Local, spec: &str) -> Outcome<()> {
    let text = format!(
        "apiVersion: shardwright.dev/v1alpha1\nkind: RedisCluster\nmetadata: {{name: c}}\nspec:\n  shards: 3\n{spec}"
    );
    local.home.write("c.yaml", &text)?;
    Ok(())
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_replica_with_a_damaged_log_begins_anew_and_keeps_it_aside(engine) {
        let local = Local::new(&engine, "  persistence: {aof: true, fsync: always, rdb: false}\n")?;
        local.up(&[]).must(0, &[OK]);
        let written = local.write("a").await?;
        let replica = local.a_replica()?;
        local.kill9([replica])?;
        let log = local.break_log(replica, 4..8)?;
        let whole = fs::read_dir(&log)?.count();
        local.up(&[]).must(0, &[OK]);
        let kept = local.node(replica).join("data.aside-1/appendonlydir");
        assert_eq!(fs::read_dir(&kept)?.count(), whole, "nothing is deleted");
        local.until_healthy()?;
        local.all_there(&written).await
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_replica_with_an_rdb_file_of_a_newer_engine_begins_anew_and_keeps_it_aside(engine) {
        let local = Local::new(&engine, "  persistence: {aof: false, rdb: true}\n")?;
        local.up(&[]).must(0, &[OK]);
        let written = local.write("a").await?;
        let replica = local.a_replica()?;
        local.kill9([replica])?;
        let newer = "REDIS9999 and what nobody can read yet";
        fs::write(local.node(replica).join("data/dump.rdb"), newer)?;
        local.up(&[]).must(0, &[OK]);
        let kept = local.node(replica).join("data.aside-1/dump.rdb");
        assert_eq!(fs::read_to_string(kept)?, newer, "nothing is deleted");
        local.until_healthy()?;
        local.all_there(&written).await
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn the_only_copy_with_a_damaged_log_is_left_alone_and_repaired_by_what_is_printed(engine) {
        let ended = Ended::new(&engine).await?;
        let local = &ended.local;
        // Of what it wrote last: the rest of its log is whole.
        let log = local.break_log(0, 15..16)?;
        let before: Vec<u64> = sizes(&log)?;
        let ran = local.up(&[]).must(3, &[
            "c-0 can't load its data",
            "Bad file format",
            "incr.aof is damaged",
            "--accept-data-loss",
        ]);
        assert_eq!(sizes(&log)?, before, "it is left as it is");
        assert!(!local.node(0).join("data.aside-1").exists());
        let said = "cut off what follows the damage: ";
        let at = ran.err.find(said).ok_or("no repair is named")? + said.len();
        let command = ran.err[at..].lines().next().ok_or("no command")?;
        assert!(command.contains("--fix"), "{command}");
        shell(&format!("echo y | {command} >/dev/null"));
        local.up(&[]).must(0, &[OK]);
        local.all_there(&ended.written[0]).await
    }
}

/// The sizes of all files in a directory, smallest first.
fn sizes(dir: &Path) -> Outcome<Vec<u64>> {
    let mut sizes = Vec::new();
    for entry in fs::read_dir(dir)? {
        sizes.push(entry?.metadata()?.len());
    }
    sizes.sort_unstable();
    Ok(sizes)
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_configuration_is_tried_before_anything_depends_on_it(engine) {
        let local = Local::new(&engine, TYPO)?;
        let temporary = local.home.path("temporary");
        fs::create_dir(&temporary)?;
        let refused = [
            BAD_DIRECTIVE,
            "maxmemory-polic noeviction",
            "correct spec.config.maxmemory-polic",
            "nothing was changed",
        ];
        up_with_temporary(&local, &temporary).must(2, &refused);
        assert!(!local.dir().exists(), "a refusal changes nothing");
        assert!(living_in(&local.home.path("")).is_empty(), "no process is left");
        assert_eq!(fs::read_dir(&temporary)?.count(), 0, "no file is left");

        declare(&local, "")?;
        up_with_temporary(&local, &temporary).must(0, &[OK]);
        assert_eq!(fs::read_dir(&temporary)?.count(), 0, "no file is left");
        let stored = local.dir().join("manifest.yaml");
        let (pids, before) = (local.pids()?, fs::read_to_string(&stored)?);
        declare(&local, TYPO)?;
        local.up(&[]).must(2, &refused);
        assert_eq!(local.pids()?, pids);
        assert_eq!(fs::read_to_string(&stored)?, before);
        local.run(&["check"]).must(0, &["[OK]"]);

        declare(&local, "  config: {maxmemory-policy: allkeys-lru}\n")?;
        local.up(&[]).must(0, &[OK]);
        assert_eq!(living_in(&local.dir()).len(), 6);
        // It is not tried again: nothing of it is new.
        let nowhere = local.home.path("no-such-directory");
        up_with_temporary(&local, &nowhere).must(0, &[OK]).without(&["tried"]);
        // Where it can't be tried that is said, and no reason not to go on.
        declare(&local, "  config: {maxmemory-policy: allkeys-lfu}\n")?;
        up_with_temporary(&local, &nowhere).must(0, &[OK, "without having been tried first"]);
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn a_server_that_refuses_its_configuration_says_so_with_the_line(engine) {
        let local = Local::new(&engine, "")?;
        local.up(&[]).must(0, &[OK]);
        let written = local.write("a").await?;
        local.run(&["down"]).must(0, &["6 server(s) stopped"]);
        // Where it is stored, and so is nothing new.
        let stored = local.dir().join("manifest.yaml");
        let text = fs::read_to_string(&stored)?;
        fs::write(&stored, format!("{text}{TYPO}"))?;
        let ran = local.run(&["up", "--name", "c", "--timeout", "20"]);
        assert_ne!(ran.code, Some(0), "{ran:?}");
        for word in ["its configuration is not accepted, in line", "(maxmemory-polic noeviction)", BAD_DIRECTIVE, "correct spec.config"] {
            assert!(ran.err.contains(word), "no {word:?}: {ran:?}");
        }
        // The manifest that it was made from is still right, and it is given as the remedy says.
        local.up(&[]).must(0, &[OK]);
        local.all_there(&written).await
    }
}
