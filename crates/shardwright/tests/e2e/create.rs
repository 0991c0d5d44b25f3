//! `create` on servers started by hand, and what redis-cli says of the result at once.

use shardwright_testkit::tls::Certificates;
use shardwright_testkit::{Cluster, Error, Load, LoadOptions, Server, each_engine};
use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::rig::{Block, Home, TestResult, args, cli_check, standing};

/// Every node agrees at once, also in redis-cli's eyes; settings are what they were.
async fn agreed_at_once(cluster: &Cluster, more: &[&str]) -> TestResult {
    for server in &cluster.servers {
        cli_check(server.engine(), &server.address(), more)?;
    }
    let (mut primaries, mut linked) = (0, 0);
    for server in &cluster.servers {
        match standing(server).await?.link_up {
            None => primaries += 1,
            Some(up) => linked += usize::from(up),
        }
    }
    assert_eq!(
        (primaries, linked),
        (3, 3),
        "primaries, and replicas with a link to them"
    );
    Ok(())
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn six_empty_nodes_become_a_cluster_that_redis_cli_accepts_at_once(engine) {
        let home = Home::new()?;
        let set = Cluster::start(&engine, 6, |builder| builder)?;
        // A name for some, an IP for the others, as people type them.
        let nodes: Vec<String> = set.servers.iter().enumerate().map(|(at, server)| {
            let host = if at % 2 == 0 { "localhost" } else { "127.0.0.1" };
            format!("{host}:{}", server.port())
        }).collect();
        home.run(&args(&["create", "--replicas", "1", "--yes"], &nodes))
            .must(0, &["[OK] 6 nodes agree", "every slot is covered", "Primary[1] -> slots 5461-10922"]);
        agreed_at_once(&set, &[]).await?;
        for server in &set.servers {
            let timeout: Vec<String> = server.ask(&["CONFIG", "GET", "cluster-node-timeout"]).await?;
            assert_eq!(timeout[1], "15000", "what was set before is set again");
            let delay: Vec<String> = server.ask(&["CONFIG", "GET", "repl-diskless-sync-delay"]).await?;
            assert_eq!(delay[1], "5", "what was set before is set again");
            home.run(&["check", &server.address()]).must(0, &["[OK] 6 nodes agree"]);
        }
        let load = Load::start(&set.addresses(), LoadOptions::default());
        load.until_more(200, Duration::from_secs(10)).await?;
        let report = load.stop().await;
        assert_eq!(report.lost(&set.addresses()).await?, []);
        // Again: it is in use, whatever shape is asked for, and no layout is shown that it has not.
        for replicas in ["0", "1"] {
            home.run(&args(&["create", "--replicas", replicas, "--yes"], &nodes))
                .must(3, &["are one cluster already, which holds keys", "shardwright status"])
                .without(&["Primary["]);
        }
        home.run(&args(&["create", "--unless-formed", "--replicas", "1", "--yes"], &nodes)).must(0, &["[OK]"]);
        assert_eq!(report.lost(&set.addresses()).await?, []);
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn servers_whose_bus_has_a_port_of_its_own_form_a_cluster_and_join_one(engine) {
        let home = Home::new()?;
        let buses = Block::take(4)?;
        let next = Cell::new(buses.first());
        let set = Cluster::start(&engine, 4, |builder| {
            let bus = next.replace(next.get() + 1).to_string();
            builder.config("cluster-port", &bus)
        })?;
        let addresses = set.addresses();
        home.run(&args(&["create", "--replicas", "0", "--yes"], &addresses[..3]))
            .must(0, &["[OK] 3 nodes agree"]);
        home.run(&["add-node", &addresses[0], &addresses[3]]).must(0, &["[OK]", "has joined"]);
        let told = |view: &str| (0..4).all(|n| view.contains(&format!("@{}", buses.first() + n)));
        set.until_views("all know where the buses listen", told).await?;
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn with_an_acl_user_and_its_password(engine) {
        let home = Home::new()?;
        let acl = [
            // Replicas come without a password, and may do no more than replicas must.
            "user default on nopass -@all +psync +replconf +ping",
            "user admin on >admin-password ~* &* +@all",
        ];
        let set = Cluster::start(&engine, 6, |builder| builder.acl(acl))?;
        let mut command = home.command(&args(&["create", "--replicas", "1", "--yes", "--user", "admin"], &set.addresses()));
        command.env("SHARDWRIGHT_PASSWORD", "admin-password");
        home.finish(command).must(0, &["[OK] 6 nodes agree"]).without(&["admin-password"]);
        let login = ["--no-auth-warning", "--user", "admin", "--pass", "admin-password"];
        for server in &set.servers {
            cli_check(server.engine(), &server.address(), &login)?;
        }
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn without_the_right_to_settings_it_takes_longer_and_says_so(engine) {
        let home = Home::new()?;
        let acl = ["user default on nopass ~* &* +@all -config"];
        let set = Cluster::start(&engine, 3, |builder| builder.acl(acl))?;
        home.run(&args(&["create", "--yes"], &set.addresses())).must(
            0,
            &["warning: forming takes some seconds longer", "cluster-node-timeout", &set.addresses().join(", "),
              "forbids CONFIG GET", "[OK] 3 nodes agree"],
        );
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn an_interrupt_sets_back_what_was_hurried(engine) {
        let home = Home::new()?;
        let set = Cluster::start(&engine, 6, |builder| builder)?;
        let words = ["create", "--replicas", "1", "--yes"];
        let timeout = |server: usize| {
            let server = &set.servers[server];
            async move { Ok::<_, Error>(server.ask::<Vec<String>>(&["CONFIG", "GET", "cluster-node-timeout"]).await?[1].clone()) }
        };
        let before = timeout(0).await?;
        let mut create = home.start(home.command(&args(&words, &set.addresses())));
        let deadline = Instant::now() + Duration::from_secs(20);
        while timeout(0).await? == before {
            assert!(Instant::now() < deadline, "create never hurried");
        }
        // With one frozen it cannot be done before the signal comes.
        set.servers[5].freeze()?;
        create.signal("INT", false);
        create.until_said("stopped half-way", Duration::from_secs(20));
        create.end().must(130, &[]);
        set.servers[5].thaw()?;
        for server in 0..5 {
            assert_eq!(timeout(server).await?, before);
        }
        home.run(&args(&words, &set.addresses())).must(0, &["[OK] 6 nodes agree"]);
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn over_tls(engine) {
        let home = Home::new()?;
        let probe = Server::builder(&engine).cluster().tls(Certificates::generate()?).start();
        if let Err(why @ Error::Died { .. }) = probe {
            shardwright_testkit::skip::skipped("create over TLS", &format!("{engine} has no TLS: {why}"));
            return Ok(());
        }
        drop(probe);
        // One authority for all: each node speaks with each.
        let certificates = Certificates::generate()?;
        let (ca, cert, key) = (certificates.authority(), certificates.certificate(), certificates.key());
        let quoted = |path: &std::path::Path| format!("\"{}\"", path.display());
        let set = (0..6).map(|_| {
            Server::builder(&engine).cluster().tls(Certificates::generate()?)
                .config("tls-ca-cert-file", &quoted(&ca))
                .config("tls-cert-file", &quoted(&cert))
                .config("tls-key-file", &quoted(&key))
                .start()
        }).collect::<Result<Vec<_>, _>>()?;
        let nodes: Vec<String> = set.iter().map(Server::address).collect();
        let (ca, cert, key) = (ca.display().to_string(), cert.display().to_string(), key.display().to_string());
        let tls = ["--tls", "--cacert", &ca, "--cert", &cert, "--key", &key];
        let words = [&["create", "--replicas", "1", "--yes"], &tls[..]].concat();

        let plain = home.run(&args(&["create", "--replicas", "1", "--yes"], &nodes));
        plain.must(1, &["use TLS there"]);
        let other = Certificates::generate()?;
        let stranger = other.authority().display().to_string();
        let wrong = ["create", "--replicas", "1", "--yes", "--tls", "--cacert", &stranger];
        home.run(&args(&wrong, &nodes)).must(1, &["no TLS with", "CA"]);
        // By either protocol at the other's port: the way out is named.
        home.run(&["check", &nodes[5]]).must(1, &["where it is a TLS port: --tls, with --cacert FILE"]);
        let without = Server::builder(&engine).cluster().start()?;
        home.run(&["check", &without.address(), "--tls", "--cacert", &ca])
            .must(1, &["does not answer the TLS handshake", "without TLS: leave out --tls"]);
        without.ask::<()>(&["CONFIG", "SET", "requirepass", "hunter2"]).await?;
        home.run(&["check", &without.address()])
            .must(1, &["--password-file FILE, --askpass or SHARDWRIGHT_PASSWORD", "--user NAME", "local:NAME"]);

        home.run(&args(&words, &nodes)).must(0, &["[OK] 6 nodes agree"]);
        let check = [&["check", &nodes[5]], &tls[..]].concat();
        home.run(&check).must(0, &["[OK] 6 nodes agree"]);
        for node in &nodes {
            cli_check(&engine, node, &tls)?;
        }
        Ok(())
    }
}

each_engine! {
    [valkey_8_0, valkey_9_1]
    async fn servers_that_say_their_zones_are_paired_across_them(engine) {
        let home = Home::new()?;
        let zones = ["a", "b", "c", "a", "b", "c"];
        let servers: Result<Vec<Server>, Error> = zones
            .iter()
            .map(|zone| Server::builder(&engine).cluster().config("availability-zone", zone).start())
            .collect();
        let servers = servers?;
        let nodes: Vec<String> = servers.iter().map(Server::address).collect();
        home.run(&args(&["create", "--replicas", "1", "--yes"], &nodes)).must(0, &["[OK] 6 nodes agree"]);
        let mut zone_of = std::collections::BTreeMap::new();
        for (server, zone) in servers.iter().zip(zones) {
            zone_of.insert(server.id().await?, zone);
        }
        // The first three are the primaries, as they were named: one in each zone.
        for (server, zone) in servers.iter().zip(zones).skip(3) {
            let primary = standing(server).await?.follows.ok_or("a primary")?;
            assert_ne!(zone_of.get(&primary), Some(&zone), "{primary}");
        }
        Ok(())
    }
}
