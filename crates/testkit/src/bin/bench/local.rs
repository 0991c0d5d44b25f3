//! A local cluster, driven as a person drives it: through the `shardwright` program.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use shardwright_testkit::TestResult;

/// Any failure, with a text for the person who reads it.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The `shardwright` that was built beside this program, unless `SHARDWRIGHT` names another.
pub(crate) fn program() -> Result<PathBuf, Failure> {
    if let Some(named) = std::env::var_os("SHARDWRIGHT") {
        return Ok(PathBuf::from(named));
    }
    let path = std::env::current_exe()?.with_file_name("shardwright");
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!("{} is not there; run: make build", path.display()).into())
    }
}

/// A local cluster: its directory, and what it noted of its servers there.
#[derive(Clone, Debug)]
pub(crate) struct LocalCluster {
    dir: PathBuf,
}

impl LocalCluster {
    pub(crate) fn at(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its servers by name, as `HOST:PORT`.
    pub(crate) fn servers(&self) -> Result<BTreeMap<String, String>, Failure> {
        let note = read_json(&self.dir.join("cluster.json"))?;
        let servers = note["servers"].as_object();
        let servers = servers.ok_or("cluster.json lists no servers")?;
        servers
            .iter()
            .map(|(name, server)| {
                let port = server["port"].as_u64().ok_or("a server without a port")?;
                Ok((name.clone(), format!("127.0.0.1:{port}")))
            })
            .collect()
    }

    pub(crate) fn addresses(&self) -> Result<Vec<String>, Failure> {
        Ok(self.servers()?.into_values().collect())
    }

    pub(crate) fn login(&self, user: &str) -> Result<(String, String), Failure> {
        let path = self.dir.join("secrets").join(user);
        let text = std::fs::read_to_string(&path)
            .map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        Ok((user.to_owned(), text.trim_end().to_owned()))
    }

    /// kill -9 of the server at this address. It is not our child: whoever started it reaps it.
    pub(crate) fn kill9(&self, address: &str) -> Result<i32, Failure> {
        let servers = self.servers()?;
        let found = servers.iter().find(|(_, at)| *at == address);
        let (name, _) = found.ok_or_else(|| format!("no server of ours is at {address}"))?;
        let note = self.dir.join("nodes").join(name).join("process.json");
        let noted = read_json(&note)?["pid"].as_i64();
        let pid = noted.and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.ok_or_else(|| format!("{} names no process", note.display()))?;
        // The number may belong to a stranger by now: it must be a process with this server's directory.
        let cwd = std::fs::read_link(format!("/proc/{pid}/cwd"))
            .map_err(|e| format!("process {pid} of {name} is not there: {e}"))?;
        if !cwd.starts_with(&self.dir) {
            return Err(format!("process {pid} is not the server {name}").into());
        }
        kill_process(Pid::from_raw(pid).ok_or("no process number")?, Signal::KILL)
            .map_err(|e| format!("cannot kill process {pid}: {e}"))?;
        Ok(pid)
    }
}

fn read_json(path: &Path) -> Result<serde_json::Value, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()).into())
}

/// Runs `shardwright` to its end, quietly; its words are shown when it fails.
pub(crate) async fn run(program: &Path, args: &[&str]) -> TestResult {
    let output = tokio::process::Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let status = output.status;
    Err(format!(
        "shardwright {} ended with {status}:\n{said}",
        args.join(" ")
    )
    .into())
}
