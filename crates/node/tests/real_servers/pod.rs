//! What a pod is to the program: a data directory, a configuration, a password, and the process.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use shardwright_node::client::{Client, NoAnswer};
use shardwright_node::resp::Value;
use shardwright_testkit::ports::Lease;
use shardwright_testkit::wait::until_blocking;
use shardwright_testkit::{Engine, Error};

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// For whatever a busy machine may delay; what is measured has limits of its own.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const PASSWORD: &str = "correct horse";

/// As the ACL file holds it, which takes no spaces.
const SHA256_OF_PASSWORD: &str = "4104d36f8da2c254349f85836793ebe029e0c957063a34c91c2e9203187b5631";
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_shardwright-node");

/// One pod; its process is killed with it.
pub(crate) struct Pod {
    pub(crate) server: String,
    pub(crate) data: PathBuf,
    conf: String,
    lease: Lease,
    gate: Lease,
    home: tempfile::TempDir,
    child: Option<Child>,
}

impl Pod {
    /// `conf`: lines beside those that say where it is.
    pub(crate) fn new(engine: &Engine, conf: &str) -> Result<Self, Failure> {
        let home = tempfile::Builder::new()
            .prefix("shardwright-node-")
            .tempdir()?;
        let data = home.path().join("data");
        fs::create_dir(&data)?;
        fs::write(home.path().join("password"), format!("{PASSWORD}\n"))?;
        Ok(Self {
            server: engine.path.display().to_string(),
            data,
            conf: conf.to_owned(),
            lease: Lease::take()?,
            gate: Lease::take()?,
            home,
            child: None,
        })
    }

    pub(crate) fn port(&self) -> u16 {
        self.lease.port()
    }

    pub(crate) fn gate_port(&self) -> u16 {
        self.gate.port()
    }

    /// The process, which is the program before it is the server.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("it was started").id()
    }

    fn log_file(&self) -> PathBuf {
        self.home.path().join("log")
    }

    /// What the program and the server wrote since the last start.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_else(|e| e.to_string())
    }

    fn options(&self) -> Vec<String> {
        let password = self.home.path().join("password");
        [
            "--data",
            &self.data.display().to_string(),
            "--port",
            &self.port().to_string(),
            "--gate-port",
            &self.gate_port().to_string(),
            "--password-file",
            &password.display().to_string(),
        ]
        .map(str::to_owned)
        .to_vec()
    }

    /// Starts the process and does not wait.
    pub(crate) fn start(&mut self) -> Result<(), Failure> {
        let home = self.home.path();
        let acl = home.join("users.acl");
        fs::write(
            &acl,
            format!(
                "user default on nopass ~* &* +@all\n\
                 user shardwright on #{SHA256_OF_PASSWORD} +ping +role +info\n"
            ),
        )?;
        let conf = home.join("redis.conf");
        fs::write(
            &conf,
            format!(
                "bind 127.0.0.1\nport {}\naclfile \"{}\"\nsave \"\"\n{}\n",
                self.port(),
                acl.display(),
                self.conf
            ),
        )?;
        let log = File::create(self.log_file())?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", PROGRAM, "run"])
            .args(self.options())
            .args(["--", &self.server])
            .arg(&conf)
            .args(["--cluster-announce-ip", "127.0.0.1"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.child = Some(child);
        Ok(())
    }

    /// Starts, and waits until the server answers.
    pub(crate) fn start_server(&mut self) -> Result<(), Failure> {
        self.start()?;
        self.wait_for_server()
    }

    pub(crate) fn wait_for_server(&mut self) -> Result<(), Failure> {
        self.wait("the server answers", |pod| {
            match pod.ask(&["PING"]).as_deref() {
                Ok("PONG") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
    }

    /// Starts, and waits until the gate takes connections.
    pub(crate) fn start_held(&mut self) -> Result<(), Failure> {
        self.start()?;
        self.wait("the gate listens", |pod| {
            pod.gate().map(drop).map_err(|e| e.to_string())
        })
    }

    fn wait<T>(
        &mut self,
        what: &str,
        look: impl Fn(&Self) -> Result<T, String>,
    ) -> Result<T, Failure> {
        until_blocking(what, PATIENCE, || look(self))
            .map_err(|e| format!("{e}\nlog:\n{}", self.log()).into())
    }

    /// One command to the server on a connection of its own, as the default user; text only.
    pub(crate) fn ask(&self, words: &[&str]) -> Result<String, String> {
        let limit = Duration::from_secs(5);
        let answer = Client::connect(self.port(), limit).and_then(|mut c| c.ask(words, limit));
        match answer {
            Ok(Value::Text(text)) => Ok(text),
            Ok(Value::Int(number)) => Ok(number.to_string()),
            other => Err(format!("{words:?}: {other:?}")),
        }
    }

    pub(crate) fn gate(&self) -> Result<Client, NoAnswer> {
        Client::connect(self.gate_port(), Duration::from_secs(1))
    }

    /// One conversation with the gate: the lines, and the last answer.
    pub(crate) fn tell_gate(&self, lines: &[&str]) -> Result<String, Failure> {
        let mut gate = self.gate().map_err(|e| e.to_string())?;
        let mut last = String::new();
        for line in lines {
            last = gate
                .ask_gate(line, Duration::from_secs(2))
                .map_err(|e| format!("{line}: {e}"))?;
        }
        Ok(last)
    }

    /// All slots, and one key that is written.
    pub(crate) fn own_all_slots(&mut self) -> Result<(), Failure> {
        self.ask(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"])?;
        self.wait("a key can be written", |pod| pod.ask(&["SET", "k", "v"]))?;
        Ok(())
    }

    pub(crate) fn id(&self) -> Result<String, Failure> {
        Ok(self.ask(&["CLUSTER", "MYID"])?)
    }

    pub(crate) fn verb(&self, verb: &str) -> Result<Output, Failure> {
        Ok(self.verb_command(verb).output()?)
    }

    pub(crate) fn verb_command(&self, verb: &str) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg(verb).args(self.options()).stdin(Stdio::null());
        command
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Failure> {
        let child = self.child.as_ref().ok_or("it is not running")?;
        Ok(kill_process(Pid::from_child(child), signal)?)
    }

    pub(crate) fn kill9(&mut self) -> Result<(), Failure> {
        self.signal(Signal::KILL)?;
        self.wait_end()?;
        Ok(())
    }

    pub(crate) fn terminate(&mut self) -> Result<ExitStatus, Failure> {
        self.signal(Signal::TERM)?;
        self.wait_end()
    }

    pub(crate) fn wait_end(&mut self) -> Result<ExitStatus, Failure> {
        let child = self.child.as_mut().ok_or("it is not running")?;
        let status = wait_for_end(child)?;
        self.child = None;
        Ok(status)
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().and_then(|()| child.wait()).ok();
        }
    }
}

/// Waits for the end of a process, not for ever.
pub(crate) fn wait_for_end(child: &mut Child) -> Result<ExitStatus, Error> {
    until_blocking("the process ends", PATIENCE, || match child.try_wait() {
        Ok(Some(status)) => Ok(status),
        other => Err(format!("{other:?}")),
    })
}

/// `name` in the data directory.
pub(crate) fn exists(dir: &Path, name: &str) -> bool {
    dir.join(name).exists()
}
