//! Connections to real servers: how they open, are refused, and end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use shardwright_engine::{
    ACL_RULES, Access, Alternative, Client, Close, Credentials, Endpoint, Error, Failover, Retry,
    Save, Secret, Timeouts, Tls, TlsOptions, Unreachable, probe,
};
use shardwright_testkit::tls::Certificates;
use shardwright_testkit::{Persistence, Server, each_engine, until};

/// A close is noticed within this: what is measured is a millisecond, the rest is a busy machine.
const AT_ONCE: Duration = Duration::from_millis(100);

fn endpoint(server: &Server) -> Endpoint {
    Endpoint::new(server.host(), server.port())
}

fn as_user(user: Option<&str>, password: &str) -> Access {
    let user = user.map(str::to_owned);
    let credentials = Credentials {
        user,
        password: Secret::new(password),
    };
    Access {
        credentials: Some(credentials),
        ..Access::default()
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn the_password_that_a_server_has_is_found_of_two(engine) {
        let server = Server::builder(&engine).acl(["user default on nopass ~* &* +@all", "user own on >old +@all"]).start()?;
        let login = |password: &str| as_user(Some("own"), password).credentials;
        let both = |first: &str, second: &str| Access {
            alternative: login(second).map(Alternative::new),
            ..as_user(Some("own"), first)
        };
        let access = both("new", "old");
        Client::connect(&endpoint(&server), &access).await?.ping().await?;
        // What was taken last is tried first: the server's record of refusals does not grow with each connection.
        Client::connect(&endpoint(&server), &access).await?.ping().await?;
        let refused = server.ask::<Vec<BTreeMap<String, redis::Value>>>(&["ACL", "LOG"]).await?;
        let counts: Vec<_> = refused.iter().map(|entry| &entry["count"]).collect();
        assert_eq!(counts, [&redis::Value::Int(1)]);
        server.ask::<String>(&["ACL", "SETUSER", "own", "resetpass", ">new"]).await?;
        Client::connect(&endpoint(&server), &access).await?.ping().await?;
        let neither = Client::connect(&endpoint(&server), &both("old", "older")).await;
        let error = neither.expect_err("it has neither");
        assert!(matches!(error, Error::Auth { .. }), "{error}");
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn a_death_is_noticed_at_once_without_asking(engine) {
        let mut server = Server::builder(&engine).start()?;
        let client = Client::connect(&endpoint(&server), &Access::default()).await?;
        client.ping().await?;
        assert_eq!(client.is_closed(), None);
        let waiting = tokio::spawn({
            let client = client.clone();
            async move { (client.closed().await, Instant::now()) }
        });
        let killed = Instant::now();
        server.kill9()?;
        let (close, noticed) = waiting.await?;
        assert!(noticed - killed < AT_ONCE, "{:?}", noticed - killed);
        assert!(matches!(close, Close::Ended | Close::Reset), "{close:?}");
        let error = client.ping().await.expect_err("it is dead");
        assert!(matches!(error, Error::Closed { command: "PING", .. }), "{error}");
        assert_eq!(error.retry(), Retry::LookFirst);
        let again = probe(&endpoint(&server), Duration::from_secs(1)).await;
        assert_eq!(again.expect_err("nothing listens"), Unreachable::Refused);
        let error = Client::connect(&endpoint(&server), &Access::default()).await;
        let error = error.expect_err("nothing listens").to_string();
        assert!(error.contains(&server.address()) && error.contains("refused"), "{error}");
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn a_call_under_way_ends_with_the_server(engine) {
        let mut server = Server::builder(&engine).start()?;
        let access = Access {
            timeouts: Timeouts { command: Duration::from_secs(30), ..Timeouts::default() },
            ..Access::default()
        };
        let client = Client::connect(&endpoint(&server), &access).await?;
        server.freeze()?;
        let asking = tokio::spawn(async move { client.ping().await });
        server.kill9()?;
        let killed = Instant::now();
        let error = asking.await?.expect_err("nobody answers");
        assert!(killed.elapsed() < AT_ONCE);
        assert!(matches!(error, Error::Closed { .. }), "{error}");
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn a_silent_server_times_out_and_is_not_called_dead(engine) {
        let server = Server::builder(&engine).start()?;
        let timeouts = Timeouts { command: Duration::from_millis(200), ..Timeouts::default() };
        let access = Access { timeouts, ..Access::default() };
        let client = Client::connect(&endpoint(&server), &access).await?;
        server.freeze()?;
        let asked = Instant::now();
        let error = client.observe().await.expect_err("it is frozen");
        assert!(matches!(error, Error::TimedOut { .. }), "{error}");
        assert!(asked.elapsed() < Duration::from_secs(1));
        assert_eq!(client.is_closed(), None);
        server.thaw()?;
        // The late reply belongs to the call that gave up, not to the next one.
        assert_eq!(client.key_count().await?, 0);
        Ok(())
    }
}

/// A port whose queue is full: what is sent there is dropped, as behind a firewall.
fn silent_port() -> (Endpoint, Vec<Box<dyn std::any::Any>>) {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};
    let local: std::net::SocketAddr = ([127, 0, 0, 1], 0).into();
    let listener = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&listener, &local).expect("any port");
    listen(&listener, 0).expect("it is bound");
    let address = getsockname(&listener).expect("it is bound");
    let address = std::net::SocketAddr::try_from(address).expect("it is an IP address");
    let mut queue: Vec<Box<dyn std::any::Any>> = vec![Box::new(listener)];
    // Nobody accepts, so the queue of one is soon full and connections hang.
    while let Ok(stream) =
        std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100))
    {
        queue.push(Box::new(stream));
        assert!(queue.len() < 100, "the queue of {address} never fills");
    }
    (Endpoint::new("127.0.0.1", address.port()), queue)
}

#[tokio::test]
async fn silence_and_a_wrong_name_are_not_a_refusal() {
    let (silent, _queue) = silent_port();
    let asked = Instant::now();
    let why = probe(&silent, Duration::from_millis(150))
        .await
        .expect_err("nobody answers");
    assert_eq!(why, Unreachable::TimedOut);
    assert!(asked.elapsed() < Duration::from_secs(1));
    let error = Client::connect(
        &silent,
        &Access {
            timeouts: Timeouts {
                connect: Duration::from_millis(150),
                ..Timeouts::default()
            },
            ..Access::default()
        },
    )
    .await
    .expect_err("nobody answers");
    assert_eq!(error.retry(), Retry::Later);
    let wrong = Endpoint::new("no-such-host.invalid", 6379);
    let why = probe(&wrong, Duration::from_secs(5))
        .await
        .expect_err("RFC 6761 keeps it unused");
    assert!(
        matches!(why, Unreachable::Name(_) | Unreachable::TimedOut),
        "{why:?}"
    );
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn who_may_not_enter_is_told_so(engine) {
        let server = Server::builder(&engine)
            .acl(["user default on >right ~* &* +@all", "user weak on >weak -@all +ping"])
            .cluster()
            .start()?;
        let there = endpoint(&server);
        let nobody = Client::connect(&there, &Access::default()).await?;
        let error = nobody.my_id().await.expect_err("a password is wanted");
        assert!(matches!(error, Error::Auth { user: None, .. }), "{error}");
        let error = Client::connect(&there, &as_user(None, "wrong")).await.expect_err("wrong");
        assert!(matches!(error, Error::Auth { .. }), "{error}");
        assert!(!error.to_string().contains("wrong"), "the password is not shown: {error}");
        assert_eq!(error.retry(), Retry::Never);
        Client::connect(&there, &as_user(None, "right")).await?.my_id().await?;

        let weak = Client::connect(&there, &as_user(Some("weak"), "weak")).await?;
        weak.ping().await?;
        let error = weak.observe().await.expect_err("not allowed");
        let Error::NoPerm { command: "CLUSTER MYID", .. } = error else {
            return Err(format!("{error:?}").into());
        };
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn the_named_rules_are_enough(engine) {
        let own = format!("user own on >own -@all {}", ACL_RULES.join(" "));
        let server = Server::builder(&engine)
            .acl(["user default on nopass ~* &* +@all", own.as_str()])
            .cluster()
            .start()?;
        let client = Client::connect(&endpoint(&server), &as_user(Some("own"), "own")).await?;
        client.set_name("shardwright/test").await?;
        assert!(client.client_names().await?.contains(&"shardwright/test".to_owned()));
        client.observe().await?;
        client.role().await?;
        client.capabilities().await?;
        client.config_set(&[("repl-diskless-sync-delay", "0")]).await?;
        let delay = client.config_get("repl-diskless-sync-delay").await?;
        assert_eq!(delay, [("repl-diskless-sync-delay".to_owned(), "0".to_owned())]);
        client.acl_set_user("other", &[Secret::new("on"), Secret::new(">pw")]).await?;
        client.acl_load().await?;
        // Redis 7.0 sends everybody but the default user away after ACL LOAD.
        let client = Client::connect(&endpoint(&server), &as_user(Some("own"), "own")).await?;
        let error = client.failover(Failover::Takeover).await.expect_err("it is a primary");
        assert!(matches!(error, Error::Server { .. }), "{error}");
        assert_eq!(client.wait(0, Duration::from_millis(10)).await?, 0);
        client.shutdown(Save::Nothing, Duration::from_secs(5)).await?;
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_misspelled_setting_is_not_known(engine) {
        let server = Server::builder(&engine).start()?;
        let client = Client::connect(&endpoint(&server), &Access::default()).await?;
        let known = [
            "hz",
            "maxmemory",
            "client-output-buffer-limit",
            "notify-keyspace-events",
            "hash-max-ziplist-entries",
            "lua-replicate-commands",
            "key-load-delay",
        ];
        assert_eq!(client.unknown_settings(&known).await?, Vec::<String>::new());
        let some = ["maxmemory", "maxmemroy", "hz", "max-memory"];
        assert_eq!(client.unknown_settings(&some).await?, ["maxmemroy", "max-memory"]);
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn a_server_without_cluster_mode_is_told_apart(engine) {
        let server = Server::builder(&engine).start()?;
        let client = Client::connect(&endpoint(&server), &Access::default()).await?;
        let error = client.observe().await.expect_err("no cluster");
        assert!(matches!(error, Error::NotCluster { .. }), "{error:?}");
        assert!(error.to_string().contains("cluster-enabled yes"), "{error}");
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn a_loading_server_is_told_apart(engine) {
        let mut server = Server::builder(&engine).persistence(Persistence::Rdb).cluster().start()?;
        let client = Client::connect(&endpoint(&server), &Access::default()).await?;
        server.ask::<()>(&["DEBUG", "POPULATE", "20000"]).await?;
        client.shutdown(Save::Snapshot, Duration::from_secs(10)).await?;
        until("it has ended", Duration::from_secs(5), || {
            let running = server.is_running();
            async move { if running { Err("running".to_owned()) } else { Ok(()) } }
        })
        .await?;
        // Half a millisecond for each key: loading lasts ten seconds unless it is killed.
        server.set_config("key-load-delay", "500");
        server.set_config("loading-process-events-interval-bytes", "1024");
        server.relaunch()?;
        let there = endpoint(&server);
        until("it says that it is loading", Duration::from_secs(10), || async {
            let client = Client::connect(&there, &Access::default()).await.map_err(|e| e.to_string())?;
            match client.observe().await {
                Err(Error::Loading { .. }) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        Ok(())
    }
}

each_engine! {
    [redis_7_0]
    async fn tls_is_checked(engine) {
        let server = Server::builder(&engine).cluster().tls(Certificates::generate()?).start()?;
        let files = server.certificates().expect("it was given some");
        let there = endpoint(&server);
        let full = TlsOptions {
            cacert: Some(files.authority()),
            cert: Some(files.certificate()),
            key: Some(files.key()),
            ..TlsOptions::default()
        };
        let with = |options: &TlsOptions| {
            Tls::load(options).map(|tls| Access { tls: Some(tls), ..Access::default() })
        };
        let client = Client::connect(&there, &with(&full)?).await?;
        client.my_id().await?;

        let insecure = TlsOptions { cacert: None, insecure: true, ..full.clone() };
        Client::connect(&there, &with(&insecure)?).await?.my_id().await?;

        let stranger = Certificates::generate()?;
        let wrong = TlsOptions { cacert: Some(stranger.authority()), ..full.clone() };
        let error = Client::connect(&there, &with(&wrong)?).await.expect_err("not its authority");
        assert!(matches!(error, Error::Tls { .. }), "{error}");

        let other_name = TlsOptions { sni: Some("other.example".into()), ..full.clone() };
        let error = Client::connect(&there, &with(&other_name)?).await.expect_err("another name");
        assert!(matches!(error, Error::Tls { .. }), "{error}");
        let its_name = TlsOptions { sni: Some("localhost".into()), ..full.clone() };
        Client::connect(&there, &with(&its_name)?).await?.my_id().await?;

        let half = TlsOptions { key: None, ..full };
        assert!(Tls::load(&half).is_err());

        let plain = Client::connect(&there, &Access::default()).await?;
        let error = plain.ping().await.expect_err("it wants TLS");
        assert!(error.to_string().contains("use TLS"), "{error}");
        Ok(())
    }
}

each_engine! {
    [redis_7_0]
    async fn a_death_is_noticed_at_once_under_tls(engine) {
        let mut server = Server::builder(&engine).tls(Certificates::generate()?).start()?;
        let files = server.certificates().expect("it was given some");
        let tls = Tls::load(&TlsOptions {
            cacert: Some(files.authority()),
            cert: Some(files.certificate()),
            key: Some(files.key()),
            ..TlsOptions::default()
        })?;
        let access = Access { tls: Some(tls), ..Access::default() };
        let client = Client::connect(&endpoint(&server), &access).await?;
        client.ping().await?;
        let killed = Instant::now();
        server.kill9()?;
        client.closed().await;
        assert!(killed.elapsed() < AT_ONCE);
        Ok(())
    }
}
