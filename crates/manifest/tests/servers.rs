//! Real servers read what was rendered, and judge ACL rules as this crate does. Without any engine
//! on the machine the tests say that they were skipped.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use shardwright_manifest::{
    Cluster, NodeSettings, Replication, Secret, redis_conf, replication_auth, users_acl,
};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const ARTICLE: &str = include_str!("../../../examples/article.yaml");
/// The password of the article: every character of it has a meaning to some shell or parser.
const ARTICLE_PASSWORD: &str = "`5$!DfwSJ.Y(d:@M";

/// Every engine of this machine: the system's, and what stands in `.engines` of the repository.
fn engines() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = ["/usr/bin/redis-server", "/usr/bin/valkey-server"]
        .iter()
        .map(PathBuf::from)
        .filter(|path| path.exists())
        .collect();
    let copies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.engines");
    let mut roots: Vec<_> = std::fs::read_dir(copies)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .collect();
    roots.sort();
    for root in roots {
        found.extend(
            ["bin/redis-server", "bin/valkey-server"]
                .iter()
                .map(|name| root.join(name))
                .filter(|path| path.exists()),
        );
    }
    if found.is_empty() {
        // The one place that may print: a skipped test must not look like a passed one.
        writeln!(
            std::io::stderr(),
            "skipped: no redis-server and no valkey-server found"
        )
        .expect("stderr is open");
    }
    found
}

/// A port that is free together with its bus port; both below 32768, where no outgoing connection
/// takes them. Each test program looks in another stretch, and no port is given twice.
fn free_port() -> Result<u16, Box<dyn std::error::Error>> {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let first = 13_000 + u16::try_from(u64::from(std::process::id()) * 64 % 9000)?;
    for _ in 0..500 {
        let port = first + GIVEN.fetch_add(1, Ordering::Relaxed);
        let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if free(port) && free(port + 10_000) {
            return Ok(port);
        }
    }
    Err("no free port".into())
}

/// A server that ends with the test.
struct Server {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone is as good.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Server {
    /// Starts `engine` with what was rendered for the cluster of `text`.
    fn start(
        engine: &Path,
        text: &str,
        passwords: &BTreeMap<String, Secret>,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let cluster = Cluster::from_text(text)?.cluster;
        let dir = tempfile::Builder::new()
            .prefix("shardwright manifest \"it's\" ")
            .tempdir()?;
        let path = |name: &str| dir.path().join(name);
        let port = free_port()?;
        let node = NodeSettings {
            port,
            bus_port: Some(port + 10_000),
            bind: vec![[127, 0, 0, 1].into()],
            dir: dir.path().to_owned(),
            nodes_file: "nodes.conf".to_owned(),
            acl_file: path("users.acl"),
            auth_file: path("auth.conf"),
            pid_file: Some(path("server.pid")),
            log_file: Some(path("server.log")),
            announce_ip: Some([127, 0, 0, 1].into()),
            announce_hostname: Some("node-0.example.com".to_owned()),
        };
        std::fs::write(path("redis.conf"), redis_conf(&cluster, &node)?)?;
        let acl = users_acl(&cluster, passwords, replication_of(engine)?)?;
        std::fs::write(path("users.acl"), acl)?;
        let auth = replication_auth(&passwords["replication"])?;
        std::fs::write(path("auth.conf"), auth.expose())?;
        let child = Command::new(engine)
            .arg(path("redis.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut server = Self { child, port, dir };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Some(status) = server.child.try_wait()? {
                let log = std::fs::read_to_string(path_of(&server, "server.log"));
                return Err(format!("{} ended with {status}: {log:?}", engine.display()).into());
            }
            if Instant::now() > deadline {
                return Err(format!("{} does not answer", engine.display()).into());
            }
            std::thread::yield_now();
        }
        // Whoever answered, is it the one that was started?
        match server.child.try_wait()? {
            None => Ok(server),
            Some(status) => Err(format!("{} ended with {status}", engine.display()).into()),
        }
    }

    fn login(&self, user: &str, password: &str) -> Result<Connection, Box<dyn std::error::Error>> {
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut connection = Connection(BufReader::new(stream));
        match connection.call(&["AUTH", user, password])?.as_slice() {
            [ok] if ok == "OK" => Ok(connection),
            other => Err(format!("AUTH {user}: {other:?}").into()),
        }
    }
}

/// What the servers of this program may do at each other.
fn replication_of(engine: &Path) -> Result<Replication, Box<dyn std::error::Error>> {
    let said = Command::new(engine).arg("--version").output()?.stdout;
    let said = String::from_utf8(said)?;
    let version = said.split_whitespace().find_map(|w| w.strip_prefix("v="));
    let major = version
        .and_then(|v| v.split('.').next())
        .ok_or("no version")?;
    Ok(Replication::of(!said.starts_with("Redis"), major.parse()?))
}

fn path_of(server: &Server, name: &str) -> PathBuf {
    server.dir.path().join(name)
}

/// As much of the protocol as these tests speak.
struct Connection(BufReader<TcpStream>);

impl Connection {
    /// Sends a command; the answer with lists made flat.
    fn call(&mut self, command: &[&str]) -> std::io::Result<Vec<String>> {
        let mut request = format!("*{}\r\n", command.len());
        for word in command {
            let length = word.len().to_string();
            request.extend(["$", &length, "\r\n", word, "\r\n"]);
        }
        self.0.get_mut().write_all(request.as_bytes())?;
        let mut found = Vec::new();
        self.answer(&mut found)?;
        Ok(found)
    }

    fn answer(&mut self, found: &mut Vec<String>) -> std::io::Result<()> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        let (kind, rest) = line.trim_end().split_at_checked(1).unwrap_or(("", ""));
        let length = || rest.parse::<usize>().map_err(std::io::Error::other);
        match kind {
            "*" => (0..length()?).try_for_each(|_| self.answer(found)),
            "$" => {
                let mut bytes = vec![0; length()? + 2];
                self.0.read_exact(&mut bytes)?;
                bytes.truncate(bytes.len() - 2);
                found.push(String::from_utf8_lossy(&bytes).into_owned());
                Ok(())
            }
            "-" => {
                found.push(format!("-{rest}"));
                Ok(())
            }
            _ => {
                found.push(rest.to_owned());
                Ok(())
            }
        }
    }

    fn config(&mut self, key: &str) -> std::io::Result<Option<String>> {
        Ok(self.call(&["CONFIG", "GET", key])?.into_iter().nth(1))
    }
}

fn passwords(replication: &str) -> BTreeMap<String, Secret> {
    [
        ("default", "admin"),
        ("replication", replication),
        ("shardwright", "ours"),
        ("worker", "worker 1\u{a0}\"\\"),
    ]
    .map(|(user, password)| (user.to_owned(), Secret::new(password)))
    .into()
}

#[test]
fn the_article_runs_as_declared() -> Outcome {
    for engine in engines() {
        let all = passwords(ARTICLE_PASSWORD);
        let server = Server::start(&engine, ARTICLE, &all)?;
        let mut admin = server.login("default", "admin")?;
        assert_eq!(
            admin.config("masterauth")?.as_deref(),
            Some(ARTICLE_PASSWORD)
        );
        assert_eq!(admin.config("masteruser")?.as_deref(), Some("replication"));
        let cluster = Cluster::from_text(ARTICLE)?.cluster;
        for (key, value) in cluster.settings() {
            let found = admin.config(&key)?;
            assert_eq!(
                found.as_deref(),
                Some(value.as_str()),
                "{key} of {}",
                engine.display()
            );
        }
        for (key, value) in [
            ("appendonly", "yes"),
            ("appendfsync", "everysec"),
            ("save", "3600 1 300 100 60 10000"),
            ("cluster-enabled", "yes"),
            ("cluster-allow-replica-migration", "no"),
            ("cluster-announce-hostname", "node-0.example.com"),
        ] {
            assert_eq!(admin.config(key)?.as_deref(), Some(value), "{key}");
        }
        for (user, password) in &all {
            let mut connection = server.login(user, password.expose())?;
            assert_eq!(connection.call(&["PING"])?, ["PONG"], "{user}");
        }
        let mut worker = server.login("worker", all["worker"].expose())?;
        assert!(worker.call(&["FLUSHALL"])?[0].starts_with("-NOPERM"));
    }
    Ok(())
}

/// The engines' own dry run tells what our user may do, without doing it.
#[test]
fn our_own_user_may_do_what_it_must_and_no_more() -> Outcome {
    let may = [
        "CLUSTER NODES",
        "CLUSTER MEET 127.0.0.1 1",
        "CLUSTER ADDSLOTS 1",
        "CLUSTER REPLICATE x",
        "CLUSTER FAILOVER",
        "CLUSTER FORGET x",
        "CLUSTER SHARDS",
        "INFO",
        "ROLE",
        "DBSIZE",
        "WAIT 1 1",
        "PING",
        "HELLO",
        "CLIENT SETNAME x",
        "COMMAND INFO get",
        "CONFIG GET x",
        "CONFIG SET a b",
        "ACL LOAD",
        "ACL SETUSER x",
        "MIGRATE h 1 k 0 1",
        "SHUTDOWN",
    ];
    let may_not = [
        "GET k",
        "SET k v",
        "FLUSHALL",
        "KEYS *",
        "EVAL x 0",
        "DEBUG x",
        "CONFIG REWRITE",
    ];
    for engine in engines() {
        let server = Server::start(&engine, ARTICLE, &passwords("r"))?;
        let mut admin = server.login("default", "admin")?;
        let mut dry_run = |command: &str| {
            let words = ["ACL", "DRYRUN", "shardwright"]
                .into_iter()
                .chain(command.split(' '));
            admin.call(&words.collect::<Vec<_>>())
        };
        for command in may {
            assert_eq!(
                dry_run(command)?,
                ["OK"],
                "{command} on {}",
                engine.display()
            );
        }
        for command in may_not {
            let answer = dry_run(command)?;
            assert!(answer[0].contains("permission"), "{command}: {answer:?}");
        }
    }
    Ok(())
}

/// The sender of a key logs in at the receiver as our user too, so the move shows that the rules
/// are enough at both ends.
#[test]
fn our_own_user_may_move_a_key() -> Outcome {
    std::thread::scope(|scope| {
        let moves: Vec<_> = engines()
            .into_iter()
            .map(|engine| scope.spawn(move || move_a_key(&engine).map_err(|e| e.to_string())))
            .collect();
        for each in moves {
            each.join().map_err(|_| "a thread panicked")??;
        }
        Ok(())
    })
}

fn move_a_key(engine: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let sender = Server::start(engine, ARTICLE, &passwords("r"))?;
    let receiver = Server::start(engine, ARTICLE, &passwords("r"))?;
    // Two clusters of one node each, strangers to each other; both own the slot of `k`.
    for server in [&sender, &receiver] {
        let mut ours = server.login("shardwright", "ours")?;
        assert_eq!(
            ours.call(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"])?,
            ["OK"]
        );
        let deadline = Instant::now() + Duration::from_secs(10);
        while !ours.call(&["CLUSTER", "INFO"])?[0].contains("cluster_state:ok") {
            assert!(Instant::now() < deadline, "{} stays down", engine.display());
        }
    }
    let mut worker = sender.login("worker", passwords("r")["worker"].expose())?;
    assert_eq!(worker.call(&["SET", "k", "v"])?, ["OK"]);
    let port = receiver.port.to_string();
    let mut ours = sender.login("shardwright", "ours")?;
    let answer = ours.call(&[
        "MIGRATE",
        "127.0.0.1",
        &port,
        "",
        "0",
        "5000",
        "AUTH2",
        "shardwright",
        "ours",
        "KEYS",
        "k",
    ])?;
    assert_eq!(answer, ["OK"], "{}", engine.display());
    let mut worker = receiver.login("worker", passwords("r")["worker"].expose())?;
    assert_eq!(worker.call(&["GET", "k"])?, ["v"]);
    Ok(())
}

#[test]
fn any_password_reaches_the_server_as_it_is() -> Outcome {
    let nasty = [
        "a b",
        "\"",
        "'",
        "\\",
        "#x",
        "a\tb\nport 1",
        "größe €",
        "\\x41 \\n",
        "\u{7f}\u{1}",
        "x\" y",
    ];
    for engine in engines() {
        for password in nasty {
            let server = Server::start(&engine, ARTICLE, &passwords(password))?;
            let mut admin = server.login("default", "admin")?;
            assert_eq!(admin.config("masterauth")?.as_deref(), Some(password));
            server.login("replication", password)?;
        }
    }
    Ok(())
}

/// A rule is refused here exactly if the servers refuse it, apart from what belongs elsewhere.
#[test]
fn rules_are_judged_as_the_servers_judge_them() -> Outcome {
    let rules = [
        "~* &* +@all -@dangerous",
        "~* ~a",
        "allkeys ~a",
        "~* %R~a",
        "%RW~* ~a",
        "%R~* ~a",
        "~* %RW~*",
        "~* resetkeys ~a",
        "&* &a",
        "allchannels &a",
        "&* resetchannels &a",
        "~a &b",
        "%~a",
        "%RR~a",
        "%WR~a",
        "%rw~a",
        "%Ra",
        "~",
        "&",
        "+@",
        "+@nosuch",
        "+@READ",
        "-@admin",
        "+get|",
        "+config|get|x",
        "-get|x",
        "-config|set",
        "+GET",
        "get",
        "allcommands nocommands",
        "(+get ~a)",
        "()",
        "( +get )",
        "(+get (+set))",
        "(on +get)",
        "(resetkeys ~a allchannels)",
        "(+get",
        "(~* ~a)",
        "~a)",
        "clearselectors",
        "sanitize-payload",
        "skip-sanitize-payload",
        "nosuch",
        "db=",
        "Ω",
    ];
    for engine in engines() {
        let server = Server::start(&engine, ARTICLE, &passwords("r"))?;
        let mut admin = server.login("default", "admin")?;
        for rule in rules {
            let document =
                ARTICLE.replace("\"~* &* +@all -@dangerous +info\"", &format!("{rule:?}"));
            let ours = Cluster::from_text(&document)
                .map(|_| ())
                .map_err(|e| e.to_string());
            admin.call(&["ACL", "DELUSER", "probe"])?;
            // As in the ACL file, where selectors are put together from words.
            let mut command = vec!["ACL", "SETUSER", "probe"];
            if rule.starts_with('(') {
                command.push(rule);
            } else {
                command.extend(rule.split(' '));
            }
            let theirs = admin.call(&command)?;
            let agree = ours.is_ok() == (theirs == ["OK"]);
            assert!(
                agree,
                "{rule}: {ours:?} here, {theirs:?} on {}",
                engine.display()
            );
        }
    }
    Ok(())
}
