//! What is refused: each with a message that says what, about what and what next, an exit status, and nothing changed.

use shardwright_testkit::ports::Lease;
use shardwright_testkit::wait::until;
use shardwright_testkit::{Cluster, Error, Server, each_engine, engine, skip};
use std::time::Duration;

use crate::rig::{Home, TestResult, args, feed, replicas_of, state_of, states_of};

/// `create` of these nodes, without a question.
fn create<'a>(replicas: &'a str, nodes: &'a [String]) -> Vec<&'a str> {
    args(&["create", "--yes", "--replicas", replicas], nodes)
}

fn with(nodes: &[String], more: &[&str]) -> Vec<String> {
    let more = more.iter().map(|&n| n.to_owned());
    nodes.iter().cloned().chain(more).collect()
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn create_refuses_nodes_that_cannot_be_used(engine) {
        let home = Home::new()?;
        let blank = Cluster::start(&engine, 5, |builder| builder)?;
        let before = states_of(&blank.servers).await?;
        let five = blank.addresses();

        let nobody = Lease::take()?;
        let nowhere = format!("127.0.0.1:{}", nobody.port());
        home.run(&create("1", &with(&five, &[&nowhere])))
            .must(1, &["cannot reach", &nowhere, "connection refused", "start it or check the port"]);
        let other = Lease::take()?;
        let elsewhere = format!("127.0.0.1:{}", other.port());
        home.run(&create("1", &with(&five[..4], &[&nowhere, &elsewhere])))
            .must(1, &["2 nodes can't be used", &nowhere, &elsewhere]);
        home.run(&create("1", &with(&five, &["no-such-host.invalid:7000"])))
            .must(2, &["no-such-host.invalid:7000", "check the name"]);
        home.run(&create("1", &with(&five, &["127.0.0.1"]))).must(2, &["127.0.0.1", "HOST:PORT"]);
        home.run(&create("1", &with(&five, &["127.0.0.1:70000"]))).must(2, &["127.0.0.1:70000"]);

        let plain = Server::builder(&engine).start()?;
        home.run(&create("1", &with(&five, &[&plain.address()])))
            .must(1, &[&plain.address(), "does not run in cluster mode", "cluster-enabled yes"]);
        assert_eq!(plain.ask::<u64>(&["DBSIZE"]).await?, 0);

        let full = Server::builder(&engine).cluster().start()?;
        full.ask::<()>(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await?;
        serves(&full).await?;
        full.ask::<()>(&["SET", "a", "1"]).await?;
        let held = state_of(&full).await?;
        home.run(&create("1", &with(&five, &[&full.address()])))
            .must(3, &[&full.address(), "holds 1 key", "FLUSHALL", "CLUSTER RESET HARD"]);
        assert_eq!(state_of(&full).await?, held);

        let pair = Cluster::start(&engine, 2, |builder| builder)?;
        pair.meet_all().await?;
        pair.until_known().await?;
        let knows = state_of(&pair[0]).await?;
        home.run(&create("1", &with(&five, &[&pair[0].address()])))
            .must(3, &[&pair[0].address(), "knows 1 other node", "CLUSTER RESET HARD"]);
        assert_eq!(state_of(&pair[0]).await?, knows);

        assert_eq!(states_of(&blank.servers).await?, before, "a refusal changes nothing");
        Ok(())
    }
}

async fn serves(server: &Server) -> Result<(), Error> {
    let what = "the lone node serves";
    until(what, Duration::from_secs(20), || async {
        let state = server.field(&["CLUSTER", "INFO"], "cluster_state").await;
        match state {
            Ok(Some(state)) if state == "ok" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .map(|_| ())
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn create_refuses_counts_and_doubles(engine) {
        let home = Home::new()?;
        let blank = Cluster::start(&engine, 6, |builder| builder.config("bind", "127.0.0.1 127.0.0.2"))?;
        let before = states_of(&blank.servers).await?;
        let six = blank.addresses();

        home.run(&create("0", &six[..2])).must(2, &["3 primaries", "give 3 nodes or more"]);
        home.run(&create("1", &six[..5])).must(2, &["3 primaries", "5 nodes", "give 6 nodes or more"]);
        let seventh = Server::builder(&engine).cluster().start()?;
        home.run(&create("1", &with(&six, &[&seventh.address()])))
            .must(2, &["7 nodes do not divide", "1 would be left over"]);
        home.run(&["create"]).must(2, &["HOST:PORT"]);

        let port = blank[0].port();
        home.run(&create("1", &with(&six[..5], &[&six[0]]))).must(2, &[&six[0], "same server"]);
        let by_name = format!("localhost:{port}");
        home.run(&create("1", &with(&six[..5], &[&by_name])))
            .must(2, &[&six[0], &by_name, "same server", "once"]);
        let by_other_address = format!("127.0.0.2:{port}");
        home.run(&create("1", &with(&six[..5], &[&by_other_address])))
            .must(2, &[&six[0], &by_other_address, "same node", "once"]);

        let no = feed(&home, home.command(&args(&["create", "--replicas", "1"], &six)), "no\n");
        no.must(1, &["Primary[0] -> slots 0-5460", "type 'yes'", "Nothing was changed"]);
        let silence = home.run(&args(&["create", "--replicas", "1"], &six));
        silence.must(1, &["Nothing was changed"]);
        home.run(&args(&["create", "--dry-run", "--replicas", "1"], &six))
            .must(0, &["Primary[2] -> slots 10923-16383", "Adding replica"]);
        assert_eq!(states_of(&blank.servers).await?, before, "a refusal changes nothing");
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn create_says_which_password_or_right_is_missing(engine) {
        let home = Home::new()?;
        let users = [
            "user default on >right ~* &* +@all",
            "user weak on >weak ~* &* +@all -cluster|addslots -cluster|addslotsrange -cluster|meet",
            "user blind on >blind ~* &* +@all -info",
        ];
        let set = Cluster::start(&engine, 3, |builder| builder.acl(users))?;
        let three = set.addresses();
        let shape = args(&["create", "--yes"], &three);
        let run = |user: Option<&str>, password: Option<&str>| {
            let mut command = home.command(&shape);
            if let Some(user) = user {
                command.args(["--user", user]);
            }
            if let Some(password) = password {
                command.env("REDISCLI_AUTH", password);
            }
            home.finish(command)
        };
        run(None, None).must(1, &[&three[0], "Authentication required", "check user and password"]);
        run(None, Some("wrong-word"))
            .must(1, &["default user", "check user and password"])
            .without(&["wrong-word"]);
        run(Some("nobody"), Some("right")).must(1, &["nobody", "check user and password"]).without(&["right\""]);
        run(Some("weak"), None).must(2, &["--user needs a password", "--password-file"]);
        run(Some("blind"), Some("blind")).must(1, &["forbids INFO", "give the user the right"]);
        run(Some("weak"), Some("weak")).must(1, &["forbids CLUSTER", "give the user the right"]);

        // A file that everyone may read is used, with a warning.
        let file = home.write("password", "right\n")?;
        home.run(&args(&["create", "--dry-run", "--password-file", &file], &three))
            .must(0, &["warning", "can be read by others", "chmod 600", "Primary[0]"]);
        home.run(&args(&["create", "--dry-run", "--password-file", "/no/such"], &three))
            .must(2, &["there is no password file /no/such"]);
        let mut login = redis::cmd("AUTH");
        login.arg("right");
        for server in &set.servers {
            let mut connection = server.connection().await?;
            login.query_async::<()>(&mut connection).await?;
            let known: String = redis::cmd("CLUSTER").arg("NODES").query_async(&mut connection).await?;
            assert_eq!(known.lines().count(), 1, "a refusal changes nothing: {known}");
        }
        // What the weak user began, one with the rights ends.
        run(None, Some("right")).must(0, &["[OK] 3 nodes agree"]);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_major_versions_are_warned_of() -> TestResult {
    let (redis, valkey) = match (engine("redis-7.0"), engine("valkey-9.1")) {
        (Ok(redis), Ok(valkey)) => (redis, valkey),
        (Err(why), _) | (_, Err(why)) => {
            skip::skipped("several_major_versions_are_warned_of", &why.to_string());
            return Ok(());
        }
    };
    let home = Home::new()?;
    let two = Cluster::start(&redis, 2, |builder| builder)?;
    let start = |engine| Server::builder(engine).cluster().start();
    let third = start(&valkey)?;
    let nodes = with(&two.addresses(), &[&third.address()]);
    home.run(&args(&["create", "--dry-run"], &nodes)).must(
        0,
        &[
            "warning",
            "several major versions",
            "Redis 7.0.15",
            "Valkey 9.1",
        ],
    );
    match engine("redis-7.4") {
        Ok(newer) => {
            let third = start(&newer)?;
            let nodes = with(&two.addresses(), &[&third.address()]);
            home.run(&args(&["create", "--dry-run"], &nodes))
                .must(0, &["Primary[0]"])
                .without(&["several major versions"]);
        }
        Err(why) => skip::skipped("minor versions are not warned of", &why.to_string()),
    }
    Ok(())
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn targets_and_nodes_that_are_none_are_refused(engine) {
        let home = Home::new()?;
        let alone = Server::builder(&engine).cluster().start()?;
        let before = state_of(&alone).await?;
        for verb in ["check", "fix", "plan", "status"] {
            home.run(&[verb, &alone.address()])
                .must(2, &[&alone.address(), "is in no cluster", "shardwright create"]);
        }
        let plain = Server::builder(&engine).start()?;
        home.run(&["check", &plain.address()]).must(1, &["does not run in cluster mode"]);
        let nobody = Lease::take()?;
        let nowhere = format!("127.0.0.1:{}", nobody.port());
        home.run(&["check", &nowhere]).must(1, &["cannot reach", "connection refused"]);
        for wrong in ["nonsense", "local:", "k8s:b", "k8s:a/b/c", "127.0.0.1:99999"] {
            home.run(&["check", wrong]).must(2, &[wrong]);
        }
        let missing = home.path("no-such-kubeconfig").display().to_string();
        for verb in ["status", "check", "plan", "fix"] {
            home.run(&[verb, "k8s:a/b", "--kubeconfig", &missing]).must(2, &["no-such-kubeconfig"]);
        }
        home.run(&["operator", "--kubeconfig", &missing]).must(2, &["no-such-kubeconfig"]);
        home.run(&["failover", "k8s:a/b", "b-1,force"]).must(2, &["names no node"]);
        home.run(&["down", "k8s:a/b"]).must(2, &["kubectl delete rediscluster b -n a"]);
        home.run(&["add-node", "k8s:a/b", &nowhere]).must(2, &["kubectl edit rediscluster b -n a"]);
        home.run(&["remove-node", "k8s:a/b", "b-1"]).must(2, &["kubectl edit rediscluster b -n a"]);
        home.run(&["create", "k8s:a/b"]).must(2, &["kubectl apply"]);
        home.run(&["status"]).must(2, &["no local cluster", "shardwright up"]);
        home.run(&["down", "local:missing"]).must(2, &["no local cluster", "missing"]);
        home.run(&["down", "missing"]).must(2, &["no local cluster", "missing"]);
        home.run(&["down", &alone.address()]).must(2, &["only a cluster of this machine"]);
        home.run(&["frobnicate"]).must(2, &["frobnicate"]);

        let cluster = Cluster::formed(&engine, 3, 1, |builder| builder).await?;
        let formed = states_of(&cluster.servers).await?;
        let target = cluster[0].address();
        home.run(&["failover", &target, "ffff0000"]).must(2, &["no node", "ffff0000", "shardwright status"]);
        home.run(&["remove-node", &target, "127.0.0.1:1"]).must(2, &["no node", "127.0.0.1:1"]);
        home.run(&["remove-node", &target, &cluster[1].id().await?])
            .must(3, &["can't leave", "2 primaries with slots would be left", "needs 3"]);
        let replica = cluster[3].address();
        home.run(&["add-node", &target, &alone.address(), "--replica-of", &replica])
            .must(2, &["--replica-of names a replica", "name a primary"]);
        home.run(&["add-node", &target, &nowhere]).must(1, &[&nowhere, "not heard", "start it"]);
        home.run(&["add-node", "local", &alone.address()]).must(2, &["from its manifest"]);
        home.run(&["failover", &target, &replica, "--force"]).must(3, &["not proved dead"]);
        home.run(&["failover", &target, &replica, "--takeover"]).must(3, &["not proved dead"]);

        // Someone else's pen.
        let mut other = cluster[2].connection().await?;
        redis::cmd("CLIENT").arg("SETNAME").arg("shardwright/other").query_async::<()>(&mut other).await?;
        for verb in [&["fix", &target][..], &["failover", &target, &replica], &["add-node", &target, &alone.address()]] {
            home.run(verb).must(3, &["another shardwright (shardwright/other)", &cluster[2].address(), "wait until it is done"]);
        }
        home.run(&["check", &target]).must(0, &["[OK] 6 nodes agree"]);
        drop(other);

        // A node of another cluster, and one with a key of its own, can't join.
        let pair = Cluster::start(&engine, 2, |builder| builder)?;
        pair.meet_all().await?;
        pair.until_known().await?;
        let knows = state_of(&pair[0]).await?;
        home.run(&["add-node", &target, &pair[0].address()])
            .must(3, &["can't join", "knows 1 other node", "CLUSTER RESET HARD"]);
        assert_eq!(state_of(&pair[0]).await?, knows);

        assert_eq!(state_of(&alone).await?, before, "a refusal changes nothing");
        assert_eq!(states_of(&cluster.servers).await?, formed, "a refusal changes nothing");
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn a_replica_that_is_not_in_sync_is_not_switched_to(engine) {
        let home = Home::new()?;
        let cluster = Cluster::formed(&engine, 3, 1, |builder| builder).await?;
        // Its new primary waits ten minutes for more company before it gives the first copy.
        cluster[1].ask::<()>(&["CONFIG", "SET", "repl-diskless-sync-delay", "600"]).await?;
        let second = cluster[1].id().await?;
        cluster[3].ask::<()>(&["CLUSTER", "REPLICATE", &second]).await?;
        cluster.meet_all().await?;
        // A greeting of our own that is still under way would look like a change.
        let settled = |view: &str| replicas_of(view, &second) == 2 && !view.contains("handshake");
        cluster.until_views("it follows the second", settled).await?;
        let before = states_of(&cluster.servers).await?;
        home.run(&["failover", &cluster[1].address(), &cluster[3].address()])
            .must(3, &["not in sync", "wait until its link is up"]);
        assert_eq!(states_of(&cluster.servers).await?, before, "a refusal changes nothing");
        Ok(())
    }
}
