//! What `up` refuses: each with a message, an exit status, and an untouched directory.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use shardwright_testkit::{each_engine, engines, skip};

use crate::rig::{Block, Home, Ran, TestResult, changes, living_in, mode, tree};

const HEAD: &str =
    "apiVersion: shardwright.dev/v1alpha1\nkind: RedisCluster\nmetadata: {name: t}\nspec:\n";

/// Runs `up` with a manifest that has this in its `spec`.
fn up_with(home: &Home, spec: &str) -> Ran {
    let path = home
        .write("t.yaml", &format!("{HEAD}{spec}"))
        .expect("the home takes a file");
    home.run(&["up", "-f", &path])
}

#[test]
fn a_manifest_that_is_wrong_is_refused_with_the_path_of_each_field() -> TestResult {
    let home = Home::new()?;
    let cases: [(&str, &[&str]); 9] = [
        (
            "  shards: 3\n  replicaPerShard: 1\n",
            &["replicaPerShard", "replicasPerShard"],
        ),
        ("  shards: 0\n", &["spec.shards", "3"]),
        (
            "  shards: 3\n  users: [{name: a, rules: '~* +@all'}, {name: a, rules: '~* +@all'}]\n",
            &["spec.users[1].name", "`a` is listed twice"],
        ),
        (
            "  shards: 3\n  users: [{name: a, rules: '~* +@nonsense'}]\n",
            &["spec.users[0].rules", "@nonsense"],
        ),
        (
            "  shards: 3\n  users: [{name: a, rules: '~* +@all >secret'}]\n",
            &["spec.users[0].rules"],
        ),
        (
            "  shards: 3\n  config: {cluster-enabled: 'yes'}\n",
            &["spec.config", "cluster-enabled"],
        ),
        (
            "  shards: 3\n  config: {port: '1', aclfile: x}\n",
            &["2 reasons", "port", "aclfile"],
        ),
        ("  shards: three\n", &["spec.shards"]),
        (" : [\n", &["t.yaml"]),
    ];
    for (spec, words) in cases {
        up_with(&home, spec).must(2, words).without(&[">secret"]);
    }
    home.run(&["up", "-f", "/no/such.yaml"])
        .must(2, &["there is no manifest /no/such.yaml"]);
    home.run(&["up", "--shards", "2"])
        .must(2, &["spec.shards", "3"]);
    home.run(&["up", "--secrets", "/no/such"])
        .must(2, &["--secrets /no/such", "no such directory"]);
    assert!(!home.cluster_dir("t").exists(), "a refusal changes nothing");
    assert!(
        !home.cluster_dir("redis").exists(),
        "a refusal changes nothing"
    );
    Ok(())
}

#[test]
fn without_an_engine_the_install_line_is_said() -> TestResult {
    let home = Home::new()?;
    let run = |args: &[&str]| {
        let mut command = home.command(args);
        command.env("PATH", home.path("work"));
        home.finish(command)
    };
    run(&["up"]).must(
        1,
        &[
            "no valkey-server or redis-server found",
            "apt-get install redis-server",
            "--engine PATH",
        ],
    );
    run(&["up", "--engine", "valkey"]).must(
        1,
        &["no valkey-server found", "apt-get install valkey-server"],
    );
    let mut command = home.command(&["up"]);
    command.env_remove("PATH");
    home.finish(command)
        .must(1, &["PATH is not set", "valkey-server", "--engine PATH"]);
    run(&["up", "--engine", "/no/such-server"]).must(1, &["cannot run /no/such-server"]);
    run(&["up", "--engine", "/bin/true"]).must(1, &["/bin/true is no Redis or Valkey server"]);
    assert!(
        !home.cluster_dir("redis").exists(),
        "a refusal changes nothing"
    );
    Ok(())
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn what_the_machine_does_not_have_is_refused(engine) {
        let home = Home::new()?;
        let program = engine.path.display().to_string();
        let ports = Block::take(6)?;
        let port = ports.first().to_string();
        let dir = home.cluster_dir("redis");
        let up = |more: &[&str]| home.run(&[&["up", "--engine", &program, "--port", &port], more].concat());

        for (taken, what) in [(ports.first() + 2, "client port"), (ports.first() + 10_003, "bus port")] {
            let listener = TcpListener::bind(("127.0.0.1", taken))?;
            let by = format!("by process {} (", std::process::id());
            up(&[]).must(1, &[&taken.to_string(), what, "in use", &by, "--port", "stop what listens there"]);
            drop(listener);
        }
        home.run(&["up", "--engine", &program, "--port", "60000"]).must(1, &["bus ports", "65535", "smaller --port"]);
        assert!(!dir.join("nodes").exists(), "nothing was started");

        let hungry = "  shards: 3\n  resources: {requests: {memory: 900Gi}}\n";
        let path = home.write("hungry.yaml", &format!("{HEAD}{hungry}"))?;
        home.run(&["up", "-f", &path, "--engine", &program, "--port", &port])
            .must(1, &["MiB of memory", "spec.resources.requests.memory"]);
        assert!(!home.cluster_dir("t").join("nodes").exists(), "nothing was started");

        // A refusal leaves nothing that keeps the next try from succeeding.
        let small = home.path("small");
        fs::create_dir(&small)?;
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=16m", "tmpfs"]).arg(&small).output();
        if mounted.is_ok_and(|m| m.status.success()) {
            let on_small = small.join("c").display().to_string();
            up(&["--dir", &on_small]).must(1, &["MiB free", "free some, or choose another --dir"]);
            assert!(!small.join("c/nodes").exists(), "nothing was started");
            let unmounted = Command::new("umount").arg(&small).status()?;
            assert!(unmounted.success());
        } else {
            skip::skipped("a full disk", "a small file system can't be mounted here");
        }
        assert!(living_in(&home.path("")).is_empty());
        drop(ports);
        Ok(())
    }
}

fn scaling_is_refused(home: &Home, dir: &Path) -> TestResult {
    // A new server would start with whatever is in its directory.
    fs::create_dir(dir.join("nodes/one-6"))?;
    home.run(&["scale", "local:one", "--shards", "4"])
        .must(3, &["nodes/one-6 is there already", "move it away"]);
    fs::remove_dir(dir.join("nodes/one-6"))?;
    for (args, words) in [
        (&["scale", "local:one"][..], "--shards"),
        (&["scale", "local:one", "--shards", "2"], "at least 3"),
        (
            &["scale", "local:none", "--shards", "4"],
            "no local cluster",
        ),
        (
            &["scale", "127.0.0.1:1", "--shards", "4"],
            "add-node 127.0.0.1:1",
        ),
        (
            &[
                "scale",
                "k8s:a/b",
                "--shards",
                "4",
                "--kubeconfig",
                "/no-such-kubeconfig",
            ],
            "no-such-kubeconfig",
        ),
        (
            &["scale", "k8s:a/b", "--shards", "4", "--force"],
            "at its own pace",
        ),
        (
            &["plan", "127.0.0.1:1", "--shards", "4"],
            "no shape of those is declared",
        ),
        (&["pause", "127.0.0.1:1"], "Ctrl-C"),
        (&["cancel", "127.0.0.1:1"], "Ctrl-C"),
        (&["resume", "local:none"], "no local cluster"),
        (
            &[
                "reshard",
                "local:one",
                "--from",
                "a",
                "--to",
                "b",
                "--slots",
                "1",
            ],
            "evened out",
        ),
        (
            &["rebalance", "local:one", "--weights", "a=2"],
            "evened out",
        ),
        (&["rebalance", "k8s:a/b"], "its operator keeps it even"),
    ] {
        home.run(args).must(2, &[words]);
    }
    Ok(())
}

#[test]
fn directories_that_are_not_this_clusters_are_refused_and_untouched() -> TestResult {
    let Some(engine) = engines().usable.first() else {
        skip::skipped(
            "directories_that_are_not_this_clusters",
            "there is no engine",
        );
        return Ok(());
    };
    let home = Home::new()?;
    let program = engine.path.display().to_string();
    let ports = Block::take(6)?;
    let port = ports.first().to_string();

    let foreign = home.path("foreign");
    fs::create_dir(&foreign)?;
    fs::write(foreign.join("thesis.txt"), "years of work")?;
    let before = tree(&foreign);
    let dir = foreign.display().to_string();
    home.run(&["up", "--engine", &program, "--port", &port, "--dir", &dir])
        .must(
            3,
            &[&dir, "not empty and holds no cluster", "another --dir"],
        );
    home.run(&["down", "--purge", "--dir", &dir])
        .must(3, &[&dir, "holds no cluster"]);
    home.run(&["status", "--dir", &dir])
        .must(3, &[&dir, "holds no cluster"]);
    assert_eq!(changes(&before, &tree(&foreign)), Vec::<PathBuf>::new());

    home.run(&["up", "--engine", &program, "--port", &port, "--name", "one"])
        .must(0, &["[OK] one is healthy"]);
    home.run(&["down", "local:one"])
        .must(0, &["6 server(s) stopped"]);
    let dir = home.cluster_dir("one");
    let before = tree(&dir);
    let text = dir.display().to_string();
    let other = home.write("other.yaml", &format!("{HEAD}  shards: 3\n"))?;
    home.run(&["up", "-f", &other, "--dir", &text]).must(
        3,
        &["holds the cluster \"one\", not \"t\"", "another --dir"],
    );
    scaling_is_refused(&home, &dir)?;
    let cluster_json = fs::read_to_string(dir.join("cluster.json"))?;
    assert_eq!(changes(&before, &tree(&dir)), Vec::<PathBuf>::new());
    fs::write(dir.join("cluster.json"), "{ nonsense")?;
    home.run(&["up", "--name", "one"])
        .must(1, &["cluster.json is damaged"]);
    let id = serde_json::from_str::<serde_json::Value>(&cluster_json)?;
    let id = id["servers"]["one-0"]["node"].as_str().ok_or("no id")?;
    fs::write(dir.join("cluster.json"), cluster_json.replace(id, "c0ffee"))?;
    for verb in [&["up", "--name", "one"][..], &["status", "local:one"]] {
        home.run(verb).must(
            1,
            &["cluster.json", "\"c0ffee\"", "one-0", "data/nodes.conf"],
        );
    }
    fs::write(dir.join("cluster.json"), cluster_json)?;
    home.run(&["up", "--name", "one"])
        .must(0, &["[OK] one is healthy"]);
    Ok(())
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn of_two_at_once_one_is_refused(engine) {
        let home = Home::new()?;
        let program = engine.path.display().to_string();
        let ports = Block::take(6)?;
        let port = ports.first().to_string();
        let watch = home.command(&["up", "--watch", "--engine", &program, "--port", &port]);
        let mut watch = home.start(watch);
        watch.until_said("watching", Duration::from_secs(40));
        let pid = watch.pid().to_string();
        home.run(&["up", "--watch"]).must(3, &["in use by another shardwright", &pid, "stop it"]);
        // Nobody agreed: nothing is asked of the one that watches.
        home.run(&["down", "--purge"]).must(1, &["Nothing was changed", "--yes"]);
        // Looking is free.
        home.run(&["check"]).must(0, &["[OK] 6 nodes agree"]);
        home.run(&["plan"]).must(0, &["Nothing to do."]);
        watch.signal("TERM", false);
        watch.end().must(0, &["the servers run on"]);
        home.run(&["up"]).must(0, &["[OK] redis is healthy"]);
        Ok(())
    }
}

#[test]
fn passwords_that_others_can_read_are_warned_of() -> TestResult {
    let Some(engine) = engines().usable.first() else {
        skip::skipped("passwords_that_others_can_read", "there is no engine");
        return Ok(());
    };
    let home = Home::new()?;
    let program = engine.path.display().to_string();
    let ports = Block::take(6)?;
    let port = ports.first().to_string();
    let given = home.path("given");
    fs::create_dir(&given)?;
    let file = given.join("default");
    fs::write(&file, "a-given-password\n")?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644))?;
    let given = given.display().to_string();
    home.run(&[
        "up",
        "--engine",
        &program,
        "--port",
        &port,
        "--secrets",
        &given,
    ])
    .must(
        0,
        &[
            "warning",
            "given/default can be read by others",
            "chmod 600",
        ],
    )
    .without(&["a-given-password"]);
    let kept = home.cluster_dir("redis").join("secrets/default");
    assert_eq!(fs::read_to_string(&kept)?, "a-given-password");
    assert_eq!(mode(&kept), 0o600);
    Ok(())
}
