//! A configuration is tried on a throw-away server before any server depends on it.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::process::ExitStatus;
use std::time::Duration;

use shardwright_manifest::{
    Cluster, NodeSettings, REPLICATION_USER, RenderError, Replication, Secret, redis_conf,
    replication_auth, users_acl,
};
use shardwright_topology::wire::why_not_started;
use shardwright_topology::{ConfigLine, EngineKind, WhyNotStarted};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Child;

use crate::disk::NODES_FILE;
use crate::process::{self, ProcessError};
use crate::{Engine, SecretError, State, files, secrets};

/// A configuration was refused, or could not be tried.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The engine refuses it.
    #[error(
        "{engine} does not start with this manifest: {why}; correct {place} in it, nothing was changed"
    )]
    Refused {
        /// The engine.
        engine: Box<Engine>,
        /// Why.
        why: WhyNotStarted,
        /// The part of the manifest that it comes from.
        place: String,
    },
    /// The engine ends with it, for a reason that is not known here.
    #[error(
        "{engine} does not start with this manifest: it ended at once, nothing was changed; the end of its log:\n{said}"
    )]
    Ended {
        /// The engine.
        engine: Box<Engine>,
        /// The last lines of its log.
        said: String,
    },
    /// It did not start for what lacks at the place where it was tried: a disk that is full, a port that was taken.
    #[error("the server that it is tried on does not start: {why}")]
    Place {
        /// Why.
        why: WhyNotStarted,
    },
    /// It was ended, as by a lack of memory, or ended as a server that has done its work.
    #[error("the server that it is tried on ended before it answered: {status}")]
    Gone {
        /// How.
        status: ExitStatus,
    },
    /// It neither answered nor ended.
    #[error("a server that was started with it said nothing for {} s", LIMIT.as_secs())]
    Silent,
    /// A person, or the system, wants this program to end.
    #[error("stopped before it was known whether a server starts with it")]
    Stopped,
    /// Other processes took its ports, each time.
    #[error("no free port was found for it")]
    NoPort,
    /// A file or a socket for it can't be made.
    #[error("cannot use {what}")]
    File {
        /// Which.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// A password for it can't be made.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Its configuration file can't be rendered.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// Its process can't be started or waited for.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

impl TrialError {
    /// Whether the engine itself said no. Else nothing is known of the configuration.
    pub fn is_a_refusal(&self) -> bool {
        match self {
            Self::Refused { .. } | Self::Ended { .. } => true,
            Self::Place { .. }
            | Self::Gone { .. }
            | Self::Silent
            | Self::Stopped
            | Self::NoPort
            | Self::File { .. }
            | Self::Secret(_)
            | Self::Render(_)
            | Self::Process(_) => false,
        }
    }
}

/// How long a throw-away server may take to answer or to end. One without data takes some hundredths of a second.
const LIMIT: Duration = Duration::from_secs(10);
/// How often it is asked whether it answers.
const ASK_EVERY: Duration = Duration::from_millis(20);
/// How often other ports are taken, where somebody took those that had been free.
const TRIES: u32 = 3;

/// Whether a configuration is new to the engine that is to run with it. `before`: what was declared in this directory,
/// where that is known; `found`: what is stored there.
pub fn is_to_be_tried(
    before: Option<&Cluster>,
    found: Option<&State>,
    cluster: &Cluster,
    engine: &Engine,
) -> bool {
    let Some((before, found)) = before.zip(found) else {
        return true;
    };
    found.engine != engine.path
        || before.settings() != cluster.settings()
        || before.users() != cluster.users()
        || before.persistence() != cluster.persistence()
}

/// Starts one server with the configuration and the users of a cluster, without data, at this machine's own address, in
/// a directory of its own that is removed again, and waits until it answers, or until `stop` ends.
///
/// # Errors
/// Where it ends instead ([`TrialError::is_a_refusal`]), and where nothing could be tried.
pub async fn try_configuration(
    cluster: &Cluster,
    engine: &Engine,
    stop: impl Future<Output = ()>,
) -> Result<(), TrialError> {
    let mut stop = pin!(stop);
    for _ in 0..TRIES {
        match attempt(cluster, engine, stop.as_mut()).await {
            Err(TrialError::Place {
                why: WhyNotStarted::PortInUse { .. },
            }) => {}
            ended => return ended,
        }
    }
    Err(TrialError::NoPort)
}

async fn attempt(
    cluster: &Cluster,
    engine: &Engine,
    stop: Pin<&mut impl Future<Output = ()>>,
) -> Result<(), TrialError> {
    let made = tempfile::Builder::new()
        .prefix("shardwright-trial-")
        .tempdir();
    let dir = made.map_err(file("a temporary directory"))?;
    let [port, bus_port] = free_ports().map_err(file("a port of 127.0.0.1"))?;
    let trial = Trial {
        cluster,
        engine,
        dir: dir.path(),
        port,
    };
    let conf = trial.write(bus_port)?;
    let mut command = process::command(&engine.path, &conf, &trial.data(), &trial.log())?;
    // In a group of its own: what a terminal sends to ours, we see, and end it.
    let started = command.process_group(0).kill_on_drop(true).spawn();
    let mut child = started.map_err(|source| ProcessError::Start {
        program: engine.path.clone(),
        source,
    })?;
    let pid = child.id();
    let ended = trial.watch(&mut child, stop).await;
    if !matches!(ended, Ok(Ended::ByItself(_))) {
        // It has nothing to save.
        let killed = child.kill().await;
        killed.map_err(file("the server that was tried"))?;
    }
    match ended? {
        Ended::Answering => Ok(()),
        Ended::ByItself(status) if gave_up(status) => Err(trial.refusal(pid)),
        Ended::ByItself(status) => Err(TrialError::Gone { status }),
    }
}

/// Whether a server ended itself for something that it does not accept. What a signal ended said nothing.
fn gave_up(status: ExitStatus) -> bool {
    status.code().is_some_and(|code| code != 0)
}

/// How a throw-away server was seen last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ended {
    /// It answers.
    Answering,
    /// It has ended.
    ByItself(ExitStatus),
}

struct Trial<'a> {
    cluster: &'a Cluster,
    engine: &'a Engine,
    dir: &'a Path,
    port: u16,
}

impl Trial<'_> {
    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn log(&self) -> PathBuf {
        self.dir.join("server.log")
    }

    /// Writes its files. Returns its configuration file.
    fn write(&self, bus_port: u16) -> Result<PathBuf, TrialError> {
        let data = self.data();
        files::private_dir(&data).map_err(file(&data.display().to_string()))?;
        let settings = NodeSettings {
            port: self.port,
            bus_port: Some(bus_port),
            bind: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
            dir: data,
            nodes_file: NODES_FILE.to_owned(),
            acl_file: self.dir.join("users.acl"),
            auth_file: self.dir.join("auth.conf"),
            pid_file: None,
            log_file: None,
            announce_ip: None,
            announce_hostname: None,
        };
        let mut passwords: BTreeMap<String, Secret> = BTreeMap::new();
        for user in self.cluster.users() {
            passwords.insert(user.name().to_owned(), secrets::make()?);
        }
        let replication = match passwords.get(REPLICATION_USER) {
            Some(password) => replication_auth(password)?,
            None => replication_auth(&secrets::make()?)?,
        };
        let valkey = self.engine.kind == EngineKind::Valkey;
        let rights = Replication::of(valkey, self.engine.version.major.into());
        let conf = self.dir.join("redis.conf");
        let texts = [
            (&conf, redis_conf(self.cluster, &settings)?),
            (
                &settings.acl_file,
                users_acl(self.cluster, &passwords, rights)?,
            ),
            (&settings.auth_file, replication.expose().to_owned()),
        ];
        for (path, text) in texts {
            files::write(path, &text, files::PRIVATE).map_err(file(&path.display().to_string()))?;
        }
        Ok(conf)
    }

    /// Waits until it answers or has ended.
    async fn watch(
        &self,
        child: &mut Child,
        stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Ended, TrialError> {
        let first = async {
            tokio::select! {
                biased;
                ended = child.wait() => match ended {
                    Ok(status) => Ok(Ended::ByItself(status)),
                    Err(source) => Err(file("the server that was tried")(source)),
                },
                () = stop => Err(TrialError::Stopped),
                () = answers(self.port) => Ok(Ended::Answering),
            }
        };
        let limited = tokio::time::timeout(LIMIT, first).await;
        limited.unwrap_or(Err(TrialError::Silent))
    }

    /// Why it ended, by its log.
    fn refusal(&self, pid: Option<u32>) -> TrialError {
        let engine = Box::new(self.engine.clone());
        let log = self.log();
        let text = std::fs::read(&log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let pid = pid.and_then(|pid| i32::try_from(pid).ok());
        let known = text.ok().zip(pid);
        let Some(why) = known.and_then(|(text, pid)| why_not_started(&text, pid)) else {
            let said = process::last_lines(&log);
            return TrialError::Ended { engine, said };
        };
        match &why {
            WhyNotStarted::BadUsers { .. } => {
                let place = "spec.users".to_owned();
                TrialError::Refused { engine, why, place }
            }
            WhyNotStarted::BadConfig { line, .. } => {
                let place = setting(line.as_ref(), self.cluster);
                TrialError::Refused { engine, why, place }
            }
            WhyNotStarted::CorruptAof { .. }
            | WhyNotStarted::CorruptRdb { .. }
            | WhyNotStarted::RdbTooNew { .. }
            | WhyNotStarted::NoSpace { .. }
            | WhyNotStarted::PortInUse { .. }
            | WhyNotStarted::NotPermitted { .. }
            | WhyNotStarted::TableRefused => TrialError::Place { why },
        }
    }
}

/// The part of the manifest that a line of a configuration file comes from.
fn setting(line: Option<&ConfigLine>, cluster: &Cluster) -> String {
    let key = line.and_then(|line| line.text.split_whitespace().next());
    match key.filter(|key| cluster.config().contains_key(*key)) {
        Some(key) => format!("spec.config.{key}"),
        None => "spec.config".to_owned(),
    }
}

/// Two ports of this machine's own address that nobody uses. Both are held until both are known.
fn free_ports() -> io::Result<[u16; 2]> {
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let held = [listen()?, listen()?];
    let [first, second] = &held;
    Ok([first.local_addr()?.port(), second.local_addr()?.port()])
}

/// Ends once something answers at this port. What it says does not matter: it has no user for us.
async fn answers(port: u16) {
    let mut next = tokio::time::interval(ASK_EVERY);
    loop {
        next.tick().await;
        if asked(port).await.is_ok_and(|bytes| bytes > 0) {
            return;
        }
    }
}

/// How many bytes a server says when it is asked: 0 where it hangs up.
async fn asked(port: u16) -> io::Result<usize> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.write_all(b"PING\r\n").await?;
    stream.read(&mut [0; 1]).await
}

fn file(what: &str) -> impl FnOnce(io::Error) -> TrialError {
    let what = what.to_owned();
    |source| TrialError::File { what, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn only_a_server_that_gave_up_has_refused() {
        assert!(gave_up(ExitStatus::from_raw(1 << 8)));
        assert!(!gave_up(ExitStatus::from_raw(0)));
        // The system lacked memory.
        let killed = ExitStatus::from_raw(9);
        assert!(!gave_up(killed));
        let gone = TrialError::Gone { status: killed };
        assert!(!gone.is_a_refusal());
        assert!(gone.to_string().contains("signal: 9"), "{gone}");
    }
}
