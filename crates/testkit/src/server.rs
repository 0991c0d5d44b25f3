//! One real server as a child process of the test.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use rustix::process::{Pid, Signal, kill_process};

use crate::namespace::Namespace;
use crate::ports::Lease;
use crate::tls::Certificates;
use crate::wait::until_blocking;
use crate::{Engine, Error, process};

/// A server answers its first PING within this, also on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(20);
/// A reply, or none: the limit of every command sent through [`Server::ask`].
const ASK_LIMIT: Duration = Duration::from_secs(5);

/// What a server keeps on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// Nothing: a restart is empty.
    Off,
    /// An append-only file, synced every second.
    Aof,
    /// An append-only file, synced before every reply.
    AofAlways,
    /// A snapshot at a clean stop.
    Rdb,
}

/// How a server is to run. Made by [`Server::builder`].
#[derive(Debug)]
pub struct ServerBuilder {
    engine: Engine,
    host: String,
    cluster: bool,
    persistence: Persistence,
    config: Vec<(String, String)>,
    acl: Option<Vec<String>>,
    tls: Option<Certificates>,
    dir: Option<PathBuf>,
    namespace: Option<String>,
}

impl ServerBuilder {
    /// Cluster mode.
    #[must_use]
    pub fn cluster(mut self) -> Self {
        self.cluster = true;
        self
    }

    /// The loopback address to bind, 127.0.0.1 by default; any 127.x.y.z is another "host".
    #[must_use]
    pub fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    /// One more line of configuration; a later one wins over an earlier one.
    #[must_use]
    pub fn config(mut self, key: &str, value: &str) -> Self {
        self.config.push((key.to_owned(), value.to_owned()));
        self
    }

    /// What is kept on disk; nothing by default.
    #[must_use]
    pub fn persistence(mut self, persistence: Persistence) -> Self {
        self.persistence = persistence;
        self
    }

    /// The lines of an ACL file (`user NAME …`).
    #[must_use]
    pub fn acl<L: Into<String>>(mut self, lines: impl IntoIterator<Item = L>) -> Self {
        self.acl = Some(lines.into_iter().map(Into::into).collect());
        self
    }

    /// Clients must come by TLS, with these certificates and a certificate of their own.
    #[must_use]
    pub fn tls(mut self, certificates: Certificates) -> Self {
        self.tls = Some(certificates);
        self
    }

    /// A data directory that outlives the server; a temporary one by default.
    #[must_use]
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Starts it and waits until it answers.
    pub fn start(self) -> Result<Server, Error> {
        let mut server = self.spawn()?;
        server.wait_ready()?;
        Ok(server)
    }

    /// Starts it without waiting: see [`Server::wait_ready`].
    pub fn spawn(self) -> Result<Server, Error> {
        let lease = Lease::take()?;
        let temporary = tempfile::Builder::new()
            .prefix("shardwright-test-")
            .tempdir()
            .map_err(Error::io("create a folder in", std::env::temp_dir()))?;
        let dir = self
            .dir
            .clone()
            .unwrap_or_else(|| temporary.path().join("data"));
        std::fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
        let mut server = Server {
            built: self,
            lease,
            former: Vec::new(),
            dir,
            temporary: Some(temporary),
            child: None,
        };
        server.launch()?;
        Ok(server)
    }
}

/// A real server. It is killed and reaped when this value is dropped.
#[derive(Debug)]
pub struct Server {
    built: ServerBuilder,
    lease: Lease,
    // Kept, so that nobody else appears at an address where this server is still looked for.
    former: Vec<Lease>,
    dir: PathBuf,
    temporary: Option<tempfile::TempDir>,
    child: Option<Child>,
}

impl Server {
    /// A server of this engine on 127.0.0.1, with the engine's own defaults except: nothing is
    /// kept on disk, and it listens on a private socket too.
    #[must_use]
    pub fn builder(engine: &Engine) -> ServerBuilder {
        ServerBuilder {
            engine: engine.clone(),
            host: "127.0.0.1".to_owned(),
            cluster: false,
            persistence: Persistence::Off,
            config: Vec::new(),
            acl: None,
            tls: None,
            dir: None,
            namespace: None,
        }
    }

    /// The engine it runs.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.built.engine
    }

    /// The address it binds.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.built.host
    }

    /// Its client port (the TLS port where it has certificates).
    #[must_use]
    pub fn port(&self) -> u16 {
        self.lease.port()
    }

    /// Its cluster bus port.
    #[must_use]
    pub fn bus_port(&self) -> u16 {
        self.lease.bus_port()
    }

    /// `HOST:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}:{}", self.host(), self.port())
    }

    /// Its data directory, where `nodes.conf` and the data files are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its certificates.
    #[must_use]
    pub fn certificates(&self) -> Option<&Certificates> {
        self.built.tls.as_ref()
    }

    /// Its ACL file, whether it uses one or not.
    #[must_use]
    pub fn acl_file(&self) -> PathBuf {
        self.home().join("users.acl")
    }

    /// Its process id while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        match std::fs::read(self.log_file()) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => format!("(no log: {error})"),
        }
    }

    /// Whether the process is alive; reaps it where it has ended.
    pub fn is_running(&mut self) -> bool {
        self.ended().is_none() && self.child.is_some()
    }

    /// Changes a line of its configuration for the next start.
    pub fn set_config(&mut self, key: &str, value: &str) {
        self.built.config.push((key.to_owned(), value.to_owned()));
    }

    /// kill -9, and reap: when this returns, the process is gone.
    pub fn kill9(&mut self) -> Result<(), Error> {
        let mut child = self.take_child()?;
        let path = self.dir.clone();
        child
            .kill()
            .map_err(Error::io("kill the server in", &path))?;
        child
            .wait()
            .map_err(Error::io("reap the server in", &path))?;
        Ok(())
    }

    /// SIGTERM, then waits until it has ended by itself.
    pub fn terminate(&mut self, limit: Duration) -> Result<ExitStatus, Error> {
        self.signal(Signal::TERM)?;
        let port = self.port();
        until_blocking(
            &format!("server on port {port} ends after SIGTERM"),
            limit,
            || self.ended().ok_or_else(|| "it still runs".to_owned()),
        )
    }

    /// SIGSTOP: it lives and answers nothing.
    pub fn freeze(&self) -> Result<(), Error> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT.
    pub fn thaw(&self) -> Result<(), Error> {
        self.signal(Signal::CONT)
    }

    /// Starts it again in place (it must have ended) and waits until it answers.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.relaunch()?;
        self.wait_ready()
    }

    /// Starts it again in place without waiting.
    pub fn relaunch(&mut self) -> Result<(), Error> {
        if self.is_running() {
            return Err(Error::State {
                port: self.port(),
                state: "is still running",
            });
        }
        self.child = None;
        self.launch()
    }

    /// Starts it again with the same data at another port: a new address.
    pub fn restart_at_new_port(&mut self) -> Result<(), Error> {
        let former = std::mem::replace(&mut self.lease, Lease::take()?);
        self.former.push(former);
        self.restart()
    }

    /// Starts it again with the same data at another address of this machine (127.x.y.z).
    pub fn restart_at_host(&mut self, host: &str) -> Result<(), Error> {
        host.clone_into(&mut self.built.host);
        self.restart()
    }

    /// Starts it again with the same data in a network namespace, at the address there.
    pub fn restart_in(&mut self, namespace: &Namespace) -> Result<(), Error> {
        self.built.namespace = Some(namespace.name());
        self.restart_at_host(&namespace.inside())
    }

    /// Empties its data directory (it must have ended): a lost volume.
    pub fn wipe(&mut self) -> Result<(), Error> {
        if self.is_running() {
            return Err(Error::State {
                port: self.port(),
                state: "is still running",
            });
        }
        std::fs::remove_dir_all(&self.dir).map_err(Error::io("remove", &self.dir))?;
        std::fs::create_dir_all(&self.dir).map_err(Error::io("create", &self.dir))
    }

    /// Waits until it answers PING, or an ACL keeps it from answering.
    pub fn wait_ready(&mut self) -> Result<(), Error> {
        let socket = self.socket();
        let port = self.port();
        let ready = until_blocking(
            &format!("server on port {port} answers"),
            START_LIMIT,
            || {
                if let Some(status) = self.ended() {
                    return Ok(Some(status));
                }
                ping(&socket).map(|()| None)
            },
        )?;
        match ready {
            None => Ok(()),
            Some(status) => {
                self.child = None;
                let log = self.log();
                let mut tail: Vec<_> = log.lines().rev().take(12).collect();
                tail.reverse();
                Err(Error::Died {
                    port,
                    status: status.to_string(),
                    log: tail.join("\n"),
                })
            }
        }
    }

    /// A new plain connection as the default user.
    pub async fn connection(&self) -> Result<MultiplexedConnection, Error> {
        connect(&self.address()).await
    }

    /// Sends one command on a new connection and returns the answer.
    pub async fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> Result<T, Error> {
        let mut connection = self.connection().await?;
        ask_on(&mut connection, &self.address(), words).await
    }

    /// The node's own id (`CLUSTER MYID`).
    pub async fn id(&self) -> Result<String, Error> {
        self.ask(&["CLUSTER", "MYID"]).await
    }

    /// One field of an `INFO`-like text (`CLUSTER INFO`, `INFO replication`), if it is there.
    pub async fn field(&self, words: &[&str], name: &str) -> Result<Option<String>, Error> {
        let text: String = self.ask(words).await?;
        let value = text.lines().find_map(|line| {
            let (key, value) = line.trim_end().split_once(':')?;
            (key == name).then(|| value.to_owned())
        });
        Ok(value)
    }

    fn home(&self) -> &Path {
        match &self.temporary {
            Some(temporary) => temporary.path(),
            None => &self.dir,
        }
    }

    fn log_file(&self) -> PathBuf {
        self.home().join("server.log")
    }

    fn socket(&self) -> PathBuf {
        self.home().join("s.sock")
    }

    fn signal(&self, signal: Signal) -> Result<(), Error> {
        let child = self.child.as_ref().ok_or(self.not_running())?;
        // Our own child, not yet reaped: the pid cannot belong to anybody else.
        let pid = Pid::from_child(child);
        kill_process(pid, signal)
            .map_err(|errno| Error::io("signal the server in", &self.dir)(errno.into()))
    }

    fn take_child(&mut self) -> Result<Child, Error> {
        self.child.take().ok_or(self.not_running())
    }

    fn not_running(&self) -> Error {
        Error::State {
            port: self.port(),
            state: "is not running",
        }
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        self.child = None;
        Some(status)
    }

    fn launch(&mut self) -> Result<(), Error> {
        if let Some(lines) = &self.built.acl {
            let path = self.acl_file();
            std::fs::write(&path, lines.join("\n") + "\n").map_err(Error::io("write", &path))?;
        }
        let config = self.home().join("server.conf");
        std::fs::write(&config, self.config_text()).map_err(Error::io("write", &config))?;
        // A socket left by a killed server would look like a server that refuses.
        match std::fs::remove_file(self.socket()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove", self.socket())(error));
            }
            _ => {}
        }
        let binary = &self.built.engine.path;
        let mut command = match &self.built.namespace {
            None => process::command(binary),
            Some(name) => {
                let mut command = process::command(Path::new("ip"));
                command.args(["netns", "exec", name]).arg(binary);
                command
            }
        };
        command
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = process::spawn(command).map_err(Error::io("start", &self.built.engine.path))?;
        self.child = Some(child);
        Ok(())
    }

    fn config_text(&self) -> String {
        let built = &self.built;
        let quoted = |path: &Path| format!("\"{}\"", path.display());
        let mut lines: Vec<(String, String)> = Vec::new();
        let mut set = |key: &str, value: &str| lines.push((key.to_owned(), value.to_owned()));
        set("bind", &built.host);
        if !built.host.starts_with("127.") {
            set("bind-source-addr", &built.host);
        }
        set("dir", &quoted(&self.dir));
        set("logfile", &quoted(&self.log_file()));
        set("unixsocket", &quoted(&self.socket()));
        set("enable-debug-command", "yes");
        match &built.tls {
            None => set("port", &self.port().to_string()),
            Some(tls) => {
                set("port", "0");
                set("tls-port", &self.port().to_string());
                set("tls-ca-cert-file", &quoted(&tls.authority()));
                set("tls-cert-file", &quoted(&tls.certificate()));
                set("tls-key-file", &quoted(&tls.key()));
                set("tls-cluster", "yes");
                set("tls-replication", "yes");
            }
        }
        if built.cluster {
            set("cluster-enabled", "yes");
        }
        if built.acl.is_some() {
            set("aclfile", &quoted(&self.acl_file()));
        }
        let (aof, fsync, save) = match built.persistence {
            Persistence::Off => ("no", "everysec", "\"\""),
            Persistence::Aof => ("yes", "everysec", "\"\""),
            Persistence::AofAlways => ("yes", "always", "\"\""),
            Persistence::Rdb => ("no", "everysec", "3600 1"),
        };
        set("appendonly", aof);
        set("appendfsync", fsync);
        set("save", save);
        for (key, value) in &built.config {
            set(key, value);
        }
        lines.iter().fold(String::new(), |mut text, (key, value)| {
            writeln!(text, "{key} {value}").expect("a String takes all");
            text
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Nothing is left to tell a failure to; pdeathsig is the second net.
            child.kill().and_then(|()| child.wait()).ok();
        }
        if std::thread::panicking()
            && let Some(temporary) = self.temporary.take()
        {
            let kept = temporary.keep();
            let line = format!(
                "port {}: log kept in {}\n",
                self.lease.port(),
                kept.display()
            );
            std::io::stderr().write_all(line.as_bytes()).ok();
        }
    }
}

/// A new plain connection to `HOST:PORT` as the default user.
pub async fn connect(address: &str) -> Result<MultiplexedConnection, Error> {
    let failed = |source| Error::Redis {
        command: "connect".to_owned(),
        address: address.to_owned(),
        source,
    };
    let client = redis::Client::open(format!("redis://{address}/")).map_err(failed)?;
    let config = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(ASK_LIMIT))
        .set_response_timeout(Some(ASK_LIMIT));
    client
        .get_multiplexed_async_connection_with_config(&config)
        .await
        .map_err(failed)
}

/// Sends one command on this connection.
pub async fn ask_on<T: redis::FromRedisValue>(
    connection: &mut MultiplexedConnection,
    address: &str,
    words: &[&str],
) -> Result<T, Error> {
    let mut command = redis::Cmd::new();
    for word in words {
        command.arg(word);
    }
    command
        .query_async(connection)
        .await
        .map_err(|source| Error::Redis {
            command: words.join(" "),
            address: address.to_owned(),
            source,
        })
}

/// `Ok` where the server answers as one that has loaded its data.
fn ping(socket: &Path) -> Result<(), String> {
    let mut stream = UnixStream::connect(socket).map_err(|e| e.to_string())?;
    let limit = Some(Duration::from_secs(1));
    stream.set_read_timeout(limit).map_err(|e| e.to_string())?;
    stream.write_all(b"PING\r\n").map_err(|e| e.to_string())?;
    let mut answer = [0; 64];
    let read = stream.read(&mut answer).map_err(|e| e.to_string())?;
    let answer = String::from_utf8_lossy(&answer[..read]);
    let answered = ["+PONG", "-NOAUTH", "-NOPERM", "-MASTERDOWN"];
    if answered.iter().any(|start| answer.starts_with(start)) {
        Ok(())
    } else {
        Err(answer.trim_end().to_owned())
    }
}
