//! What every test stands on: a home of its own, the real binary, and an end in any case.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use shardwright_testkit::ports::Lease;
use shardwright_testkit::wait::until_blocking;
use shardwright_testkit::{Engine, Server, engines};

use shardwright_topology::wire::{parse_nodes, parse_server_info};
use shardwright_topology::{NodeId, Replication, Role};

pub(crate) use shardwright_testkit::TestResult;

/// No run of the binary takes longer: its own limits are at most a minute, and slots of few keys move in less than two.
const LIMIT: Duration = Duration::from_secs(150);
/// Neither the user's nor the machine's passwords may reach the tested binary.
const SECRET_VARIABLES: [&str; 3] = ["SHARDWRIGHT_PASSWORD", "REDISCLI_AUTH", "SHARDWRIGHT_LOG"];

/// A home for the binary: a state directory of its own, in which no process outlives the test.
#[derive(Debug)]
pub(crate) struct Home {
    root: PathBuf,
    runs: AtomicUsize,
    reaper: Child,
}

/// Ends every process that works in the directory `$1`, then removes it. It waits for the end of
/// its standard input first, which comes also when the test process is killed.
const REAPER: &str = r#"
trap '' INT TERM HUP
cat >/dev/null
for round in 1 2; do
  for proc in /proc/[0-9]*; do
    case "$(readlink "$proc/cwd" 2>/dev/null)" in
      "$1"/*) kill -KILL "${proc#/proc/}" 2>/dev/null ;;
    esac
  done
done
if mountpoint -q "$1/small" 2>/dev/null; then umount -l "$1/small"; fi
rm -rf "$1"
"#;

impl Home {
    pub(crate) fn new() -> std::io::Result<Self> {
        let root = tempfile::Builder::new()
            .prefix("shardwright-e2e-")
            .tempdir()?
            .keep();
        let root = root.canonicalize()?;
        fs::create_dir(root.join("work"))?;
        let reaper = Command::new("sh")
            .args(["-c", REAPER, "reaper"])
            .arg(&root)
            .current_dir("/")
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()?;
        Ok(Self {
            root,
            runs: AtomicUsize::new(0),
            reaper,
        })
    }

    /// A path in this home.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The directory of a local cluster.
    pub(crate) fn cluster_dir(&self, name: &str) -> PathBuf {
        self.root.join("shardwright").join(name)
    }

    /// Writes a file into this home, and returns its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> std::io::Result<String> {
        let path = self.path(name);
        fs::write(&path, text)?;
        Ok(path.display().to_string())
    }

    /// The binary with these arguments. It minds the end of a terminal, also where the tests were started by `nohup`.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("/usr/bin/env");
        command
            .args(["--default-signal=HUP", env!("CARGO_BIN_EXE_shardwright")])
            .args(args)
            .env("XDG_STATE_HOME", &self.root)
            .current_dir(self.root.join("work"))
            .stdin(Stdio::null());
        for name in SECRET_VARIABLES {
            command.env_remove(name);
        }
        command
    }

    /// Runs the binary with these arguments to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.finish(self.command(args))
    }

    /// Runs a command to its end.
    pub(crate) fn finish(&self, command: Command) -> Ran {
        self.start(command).end()
    }

    /// Starts a command whose two streams are kept.
    pub(crate) fn start(&self, mut command: Command) -> Running {
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let (out, err) = (
            self.path(&format!("run-{number}.out")),
            self.path(&format!("run-{number}.err")),
        );
        let create = |path: &Path| File::create(path).expect("the home takes files");
        let child = command
            .stdout(create(&out))
            .stderr(create(&err))
            .spawn()
            .expect("the command starts");
        let args: Vec<_> = command.get_args().map(|a| a.to_string_lossy()).collect();
        Running {
            child,
            args: args.join(" "),
            out,
            err,
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // The end of its input is the reaper's sign; it ends within a moment.
        drop(self.reaper.stdin.take());
        self.reaper.wait().ok();
    }
}

/// A run of the binary that is not over.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    args: String,
    out: PathBuf,
    err: PathBuf,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to standard error so far.
    pub(crate) fn said(&self) -> String {
        read(&self.err)
    }

    /// What it has written to standard output so far.
    pub(crate) fn written(&self) -> String {
        read(&self.out)
    }

    /// Waits until standard error has these words.
    #[track_caller]
    pub(crate) fn until_said(&mut self, words: &str, limit: Duration) {
        let what = format!("`{}` says {words:?}", self.args);
        let said = until_blocking(&what, limit, || {
            let said = self.said();
            let over = self.child.try_wait().expect("a child can be waited for");
            match (said.contains(words), over) {
                (true, _) => Ok(Ok(())),
                (false, Some(status)) => Ok(Err(format!("{what}: it ended ({status}):\n{said}"))),
                (false, None) => Err(said),
            }
        });
        match said {
            Ok(Ok(())) => {}
            Ok(Err(over)) => panic!("{over}"),
            Err(late) => panic!("{late}"),
        }
    }

    /// Sends it a signal (`TERM`), or to its whole process group.
    pub(crate) fn signal(&self, signal: &str, group: bool) {
        let to = if group { "-" } else { "" };
        shell(&format!("kill -{signal} {to}{}", self.pid()));
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn end(mut self) -> Ran {
        let what = format!("`{}` ends", self.args);
        let ended = until_blocking(&what, LIMIT, || {
            let status = self.child.try_wait().map_err(|e| e.to_string())?;
            status.ok_or_else(|| self.said())
        });
        let status = match ended {
            Ok(status) => status,
            Err(late) => {
                self.child.kill().and_then(|()| self.child.wait()).ok();
                panic!("{late}");
            }
        };
        Ran {
            code: status.code(),
            args: self.args,
            out: read(&self.out),
            err: read(&self.err),
        }
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).expect("it was created")).into_owned()
}

/// Runs a line of shell that must succeed.
#[track_caller]
pub(crate) fn shell(line: &str) {
    let status = Command::new("sh").args(["-c", line]).status();
    assert!(status.is_ok_and(|s| s.success()), "{line}");
}

/// A run of the binary that is over.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) args: String,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    fn told(&self) -> String {
        format!(
            "`{}` ended with {:?}\nout: {}\nerr: {}",
            self.args, self.code, self.out, self.err
        )
    }

    /// It ended with this status, and said each of these words on either stream.
    #[track_caller]
    pub(crate) fn must(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.told());
        let all = format!("{}\n{}", self.out, self.err);
        for word in words {
            assert!(all.contains(word), "no {word:?}: {}", self.told());
        }
        self
    }

    /// It said none of these words.
    #[track_caller]
    pub(crate) fn without(self, words: &[&str]) -> Self {
        for word in words {
            let said = self.out.contains(word) || self.err.contains(word);
            assert!(!said, "{word:?} in: {}", self.told());
        }
        self
    }
}

/// Free ports in a row, with their bus ports.
#[derive(Debug)]
pub(crate) struct Block {
    leases: Vec<Lease>,
}

impl Block {
    pub(crate) fn take(count: u16) -> Result<Self, shardwright_testkit::Error> {
        let leases = Lease::take_row(count)?;
        Ok(Self { leases })
    }

    pub(crate) fn first(&self) -> u16 {
        self.leases.first().map_or(0, Lease::port)
    }

    /// `HOST:PORT` of each.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let address = |l: &Lease| format!("127.0.0.1:{}", l.port());
        self.leases.iter().map(address).collect()
    }
}

/// What differs between two looks at a directory. The lock is left out: it tells who came last.
pub(crate) fn changes(before: &Tree, after: &Tree) -> Vec<PathBuf> {
    let all = before.keys().chain(after.keys());
    let mut changed: Vec<PathBuf> = all
        .filter(|path| before.get(*path) != after.get(*path) && !path.ends_with("lock"))
        .cloned()
        .collect();
    changed.dedup();
    changed
}

/// Files with mode and content.
pub(crate) type Tree = BTreeMap<PathBuf, (u32, Vec<u8>)>;

/// Every file below a directory, with its mode and what is in it.
pub(crate) fn tree(dir: &Path) -> Tree {
    let mut found = BTreeMap::new();
    let Ok(entries) = fs::read_dir(dir) else {
        return found;
    };
    for entry in entries {
        let path = entry.expect("an entry can be read").path();
        let meta = fs::symlink_metadata(&path).expect("an entry has metadata");
        if meta.is_dir() {
            found.insert(path.clone(), (meta.permissions().mode(), Vec::new()));
            found.append(&mut tree(&path));
        } else if meta.is_file() {
            let bytes = fs::read(&path).expect("a file can be read");
            found.insert(path, (meta.permissions().mode(), bytes));
        }
    }
    found
}

/// Processes whose working directory is in `dir`: a server works in its data directory.
pub(crate) fn living_in(dir: &Path) -> Vec<i32> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc").expect("there is /proc").flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else {
            continue;
        };
        let cwd = fs::read_link(entry.path().join("cwd"));
        let zombie = fs::metadata(entry.path().join("exe")).is_err();
        if cwd.is_ok_and(|cwd| cwd.starts_with(dir)) && !zombie {
            pids.push(pid);
        }
    }
    pids.sort_unstable();
    pids
}

/// The mode bits of a file.
pub(crate) fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").mode() & 0o777
}

/// Whom a server takes itself for, and whether its copy is whole.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) role: Role,
    /// The id of the primary it follows.
    pub(crate) follows: Option<String>,
    /// Whether the link to its primary is up; a primary has none.
    pub(crate) link_up: Option<bool>,
}

/// How a server stands, in its own words.
pub(crate) async fn standing(
    server: &Server,
) -> Result<Standing, Box<dyn std::error::Error + Send + Sync>> {
    let rows = parse_nodes(
        server
            .ask::<String>(&["CLUSTER", "NODES"])
            .await?
            .as_bytes(),
    )?;
    let info = parse_server_info(server.ask::<String>(&["INFO"]).await?.as_bytes())?;
    let own = rows.myself().ok_or("it does not list itself")?;
    let link_up = match info.replication {
        Replication::Replica { link_up, .. } => Some(link_up),
        Replication::Primary { .. } => None,
    };
    Ok(Standing {
        role: own.role,
        follows: own.primary.map(|id| id.to_string()),
        link_up,
    })
}

/// How many of these the views of `CLUSTER NODES` in `view` list as replicas of `primary`.
pub(crate) fn replicas_of(view: &str, primary: &str) -> usize {
    let rows = parse_nodes(view.as_bytes()).expect("a server lists its nodes");
    let follows = |id: Option<NodeId>| id.is_some_and(|id| id.to_string() == primary);
    rows.iter()
        .filter(|r| r.role == Role::Replica && follows(r.primary))
        .count()
}

/// What must not change at a server that is only looked at or refused.
pub(crate) async fn state_of(server: &Server) -> Result<String, shardwright_testkit::Error> {
    let keys: u64 = server.ask(&["DBSIZE"]).await?;
    let nodes = server.ask::<String>(&["CLUSTER", "NODES"]).await;
    let rows = nodes.map(|text| {
        let mut rows: Vec<String> = text
            .lines()
            .map(|row| {
                let words: Vec<&str> = row.split(' ').collect();
                let at = |range: std::ops::Range<usize>| words.get(range).unwrap_or(&[]).join(" ");
                format!("{} {} {}", at(0..4), at(6..7), at(8..words.len()))
            })
            .collect();
        rows.sort();
        rows.join("\n")
    });
    let mut settings = Vec::new();
    for name in ["repl-diskless-sync-delay", "cluster-node-timeout"] {
        settings.push(server.ask::<Vec<String>>(&["CONFIG", "GET", name]).await?);
    }
    let rows = rows.unwrap_or_else(|_| "no cluster".to_owned());
    Ok(format!("{keys} keys, {settings:?}\n{rows}"))
}

/// The same of several.
pub(crate) async fn states_of(
    servers: impl IntoIterator<Item = &Server>,
) -> Result<Vec<String>, shardwright_testkit::Error> {
    let mut states = Vec::new();
    for server in servers {
        states.push(state_of(server).await?);
    }
    Ok(states)
}

/// `redis-cli` (or `valkey-cli`) of an engine, else of any engine of this machine.
pub(crate) fn cli(engine: &Engine) -> Option<PathBuf> {
    let beside = |engine: &Engine| {
        let names = ["redis-cli", "valkey-cli"];
        names
            .into_iter()
            .map(|name| engine.path.with_file_name(name))
            .find(|p| p.is_file())
    };
    beside(engine).or_else(|| engines().usable.iter().find_map(beside))
}

/// Runs a printed command that begins with `redis-cli`, by the one of this engine or another of this machine.
#[track_caller]
pub(crate) fn paste(home: &Home, engine: &Engine, command: &str) {
    let program = cli(engine).expect("a redis-cli on this machine");
    let link = home.path("redis-cli");
    if !link.exists() {
        std::os::unix::fs::symlink(&program, &link).expect("a link");
    }
    let dir = home.path("");
    shell(&format!("PATH={}:$PATH; {command}", dir.display()));
}

/// `redis-cli --cluster check` at this address, with these further arguments: what it said, if it is content.
pub(crate) fn cli_check(engine: &Engine, address: &str, more: &[&str]) -> Result<String, String> {
    let Some(program) = cli(engine) else {
        return Ok("no redis-cli on this machine".to_owned());
    };
    let output = Command::new(&program)
        .args(more)
        .args(["--cluster", "check", address])
        .stdin(Stdio::null())
        .output()
        .map_err(|e| e.to_string())?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let content = output.status.success()
        && said.contains("[OK] All nodes agree about slots configuration")
        && said.contains("[OK] All 16384 slots covered");
    if content { Ok(said) } else { Err(said) }
}

/// Writes to a child's standard input and closes it.
pub(crate) fn feed(home: &Home, mut command: Command, text: &str) -> Ran {
    command.stdin(Stdio::piped());
    let mut running = home.start(command);
    let mut stdin = running.child.stdin.take().expect("it is a pipe");
    stdin.write_all(text.as_bytes()).ok();
    drop(stdin);
    running.end()
}

/// The arguments as `&str`s: words first, then the list.
pub(crate) fn args<'a>(words: &[&'a str], list: &'a [String]) -> Vec<&'a str> {
    words
        .iter()
        .copied()
        .chain(list.iter().map(String::as_str))
        .collect()
}
