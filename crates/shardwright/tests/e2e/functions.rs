//! Libraries of functions: given to new shards before their slots, and compared between primaries.

use shardwright_testkit::{Cluster, Engine, Error, Server, each_engine};

use crate::rig::{Home, paste};

/// A library with one function of its own name, which returns this number.
fn library(name: &str, number: u8) -> String {
    format!("#!lua name={name}\nredis.register_function('{name}', function() return {number} end)")
}

async fn load(server: &Server, name: &str, number: u8) -> Result<(), Error> {
    let code = library(name, number);
    server
        .ask::<String>(&["FUNCTION", "LOAD", "REPLACE", &code])
        .await?;
    Ok(())
}

/// Runs the command that ends this remedy.
fn paste_copy(home: &Home, engine: &Engine, out: &str) {
    let line = out.lines().find(|l| l.contains("FUNCTION LIST"));
    let (_, command) = line
        .and_then(|line| line.split_once(" has: "))
        .expect("a remedy ends in a command");
    paste(home, engine, command);
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_library_in_which_primaries_differ_is_an_error_and_its_remedy_helps(engine) {
        let home = Home::new()?;
        let cluster = Cluster::formed(&engine, 3, 0, |builder| builder).await?;
        let target = cluster[0].address();
        let well = || drop(home.run(&["check", &target]).must(0, &["[OK]"]));
        well();
        for server in &cluster.servers {
            load(server, "same", 1).await?;
        }
        well();
        // As many libraries at each, and another code at one.
        load(&cluster[0], "two", 2).await?;
        load(&cluster[1], "two", 2).await?;
        load(&cluster[2], "two", 3).await?;
        let third = cluster[2].id().await?;
        let ran = home.run(&["check", &target]).must(1, &["[ERR]", "library two of functions is not the same", "another code at", &third[..8]]);
        assert!(!ran.out.contains("library same"), "{}", ran.out);
        home.run(&["status", &target]).must(1, &["not healthy"]);
        paste_copy(&home, &engine, &ran.out);
        well();
        let two: u64 = cluster[2].ask(&["FCALL", "two", "0"]).await?;
        assert_eq!(two, 2, "the code that most had");
        // One that lacks it.
        cluster[1].ask::<()>(&["FUNCTION", "DELETE", "two"]).await?;
        let ran = home.run(&["check", &target]).must(1, &["library two of functions", "missing at"]);
        paste_copy(&home, &engine, &ran.out);
        well();
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_new_shard_gets_only_the_libraries_that_all_owners_agree_on(engine) {
        let home = Home::new()?;
        let cluster = Cluster::formed(&engine, 3, 0, |builder| builder).await?;
        let target = cluster[0].address();
        for (server, number) in cluster.servers.iter().zip([2, 2, 3]) {
            load(server, "same", 1).await?;
            load(server, "two", number).await?;
        }
        load(&cluster[0], "own", 4).await?;
        let fourth = Server::builder(&engine).cluster().start()?;
        home.run(&["add-node", &target, &fourth.address(), "--primary"]).must(0, &["has joined"]);
        let all = ["rebalance", &target, "--use-empty-primaries"];
        let left_out = "not given: own, two (the primaries differ in them";
        home.run(&[&all[..], &["--dry-run"]].concat()).must(0, &["(libraries same)", left_out]);
        home.run(&all).must(0, &["moved 4096 slots", "[OK]", "is not given: own, two"]);
        let same: u64 = fourth.ask(&["FCALL", "same", "0"]).await?;
        assert_eq!(same, 1);
        for name in ["two", "own"] {
            let none = fourth.ask::<u64>(&["FCALL", name, "0"]).await;
            assert!(format!("{none:?}").contains("Function not found"), "{none:?}");
        }
        Ok(())
    }
}
