//! A copied disk makes two processes with one node id: that is named, and nothing is done about the node.

use std::time::Duration;

use shardwright_testkit::{Cluster, Server, each_engine, until};

use crate::rig::Home;

const LIMIT: Duration = Duration::from_secs(20);

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_copied_disk_is_named_and_not_fought(engine) {
        let home = Home::new()?;
        let cluster = Cluster::formed(&engine, 3, 1, |b| b).await?;
        let original = &cluster[0];
        let id = original.id().await?;
        let dir = home.path("copy");
        std::fs::create_dir(&dir)?;
        std::fs::copy(original.dir().join("nodes.conf"), dir.join("nodes.conf"))?;
        let mut copy = Server::builder(&engine).cluster().dir(&dir).start()?;
        assert_eq!(copy.id().await?, id, "the copy takes itself for the node");

        // Whichever of the two is named, and by whichever member: both are found.
        for target in [cluster[1].address(), original.address(), copy.address()] {
            let named = || async {
                let ran = home.run(&["check", &target]);
                let told = format!("{}\n{}", ran.out, ran.err);
                let short = &id[..8];
                let words = ["age proves nothing", "two processes answer as node", short, &original.address(), &copy.address(), "primary, run ", "up ", " keys, ", "offset "];
                if ran.code == Some(1) && words.iter().all(|word| told.contains(word)) {
                    Ok(told)
                } else {
                    Err(told)
                }
            };
            let (told, _) = until("check names both", LIMIT, named).await?;
            assert!(!told.contains("wrong address"), "{told}");
        }
        // Every look names it, at whatever moment of the two taking turns: each run begins without memory.
        for _ in 0..10 {
            let ran = home.run(&["check", &cluster[2].address()]);
            let told = format!("{}\n{}", ran.out, ran.err);
            let named = ran.code == Some(1) && told.contains("two processes answer as node");
            assert!(named, "{:?} {told}", ran.code);
        }
        let from = cluster[1].id().await?;
        for _ in 0..3 {
            let ran = home.run(&["reshard", &cluster[2].address(), "--from", &from, "--to", &id, "--slots", "10", "--yes", "--timeout", "4"]);
            let told = format!("{}\n{}", ran.out, ran.err);
            assert!(ran.code != Some(0) && !told.contains("moved 10"), "no slot goes to either: {told}");
        }
        // `fix` corrects nobody's address of it, says so, and ends.
        let refused = || async {
            let ran = home.run(&["fix", &cluster[1].address()]);
            let told = format!("{}\n{}", ran.out, ran.err);
            assert!(!told.contains("tell "), "no correction is tried: {told}");
            let words = ["two processes answer as node", "stop the process whose data is not needed"];
            let all = ran.code == Some(3) && words.iter().all(|word| told.contains(word));
            if all { Ok(()) } else { Err(told) }
        };
        until("fix names both", LIMIT, refused).await?;

        copy.kill9()?;
        let well = || async {
            let ran = home.run(&["fix", &cluster[1].address()]);
            if ran.code == Some(0) { Ok(()) } else { Err(format!("{}\n{}", ran.out, ran.err)) }
        };
        until("the cluster is well without the copy", LIMIT, well).await?;
        Ok(())
    }
}
