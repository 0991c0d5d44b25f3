//! Why a server's last process ended before it served, and what a person may do about it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use shardwright_topology::{StartFailure, WhyNotStarted};

use crate::disk::{self, LOG_DIR, LOG_MANIFEST, LastStart, SNAPSHOT};
use crate::local::{Local, LocalError, PROCESS};
use crate::ports;
use crate::process::{Identity, ProcessError};

impl Local {
    /// Why this run, the last of a server, ended before it served, by its own word in its log. `None` where that is not
    /// known, and where its program, its configuration or what it could not load has changed since: then it may start.
    pub(crate) fn start_failure(&self, name: &str, last: &Identity) -> Option<Box<StartFailure>> {
        match self.last_start(name, last) {
            LastStart::Failed(why) => Some(Box::new(self.with_remedy(name, why))),
            LastStart::Unexplained | LastStart::Changed => None,
        }
    }

    /// What is to be told before another try, of a server whose last process failed at once: how it ended. `None` where
    /// nothing of it was told yet, or what it failed for has changed since.
    ///
    /// # Errors
    /// When what is noted of its process can't be read.
    pub(crate) fn failed_at_once(&self, name: &str) -> Result<Option<ProcessError>, LocalError> {
        if !self.take_failed(name) {
            return Ok(None);
        }
        let Some(last) = Identity::read(&self.node_dir(name).join(PROCESS))? else {
            return Ok(None);
        };
        let failure = match self.last_start(name, &last) {
            LastStart::Changed => return Ok(None),
            LastStart::Unexplained => None,
            LastStart::Failed(why) => Some(Box::new(self.with_remedy(name, why))),
        };
        Ok(Some(ProcessError::gone(&self.log_file(name), failure)))
    }

    fn last_start(&self, name: &str, last: &Identity) -> LastStart {
        let (data, log) = (self.data_dir(name), self.log_file(name));
        let program = &self.state.engine;
        let same = last.program.as_ref() == Some(program) && !was_replaced(program, &log);
        if !same || !self.is_configured_alike(name) {
            return LastStart::Changed;
        }
        let aof = self.cluster.persistence().aof;
        disk::last_start(&data, &log, last.pid, aof).unwrap_or_else(|error| {
            tracing::warn!(log = %log.display(), %error, "the log is not read");
            LastStart::Unexplained
        })
    }

    fn with_remedy(&self, name: &str, why: WhyNotStarted) -> StartFailure {
        let place = Place {
            dir: &self.dir,
            data: &self.data_dir(name),
            program: &self.state.engine,
        };
        let remedy = place.remedy(&why);
        StartFailure { why, remedy }
    }
}

/// Whether a program may be another than the one that wrote the end of this log.
fn was_replaced(program: &Path, log: &Path) -> bool {
    match (fs::metadata(program), fs::metadata(log)) {
        (Ok(program), Ok(log)) => {
            (program.ctime(), program.ctime_nsec()) > (log.mtime(), log.mtime_nsec())
        }
        (Err(_), _) | (_, Err(_)) => true,
    }
}

/// Where a server's files and its program are.
struct Place<'a> {
    /// The directory of the cluster.
    dir: &'a Path,
    /// That of its data.
    data: &'a Path,
    program: &'a Path,
}

impl Place<'_> {
    /// What a person may do; at the end a command, where one does it or tells more.
    fn remedy(&self, why: &WhyNotStarted) -> Option<String> {
        let dir = word(self.data);
        Some(match why {
            WhyNotStarted::BadConfig { .. } => {
                "correct spec.config in the manifest, and give that to shardwright up -f".to_owned()
            }
            WhyNotStarted::BadUsers { .. } => {
                "correct spec.users in the manifest, and give that to shardwright up -f".to_owned()
            }
            WhyNotStarted::CorruptAof { file, said } => self.log_remedy(file.as_deref(), said),
            WhyNotStarted::CorruptRdb { .. } => {
                let file = word(&self.data.join(SNAPSHOT));
                let tool = check_tool(self.program, "rdb");
                format!("restore {file} from a copy, and see that it is whole: {tool} {file}")
            }
            WhyNotStarted::RdbTooNew { .. } => self.newer_engine(),
            WhyNotStarted::NoSpace { .. } => format!("free some space there: df -h {dir}"),
            WhyNotStarted::PortInUse { port } => {
                format!("stop what listens there: {}", ports::asked_for(*port))
            }
            WhyNotStarted::NotPermitted { said } => return self.permission(said),
            // Where others serve every slot its directory is set aside; else the wait says what to do.
            WhyNotStarted::TableRefused => return None,
        })
    }

    /// For a damaged file of its log; `None`: the log's manifest.
    ///
    /// The tool is given the file itself: that of Valkey 9.1 calls each base damaged that its engine writes, and then cuts
    /// nothing off where it is given the manifest.
    fn log_remedy(&self, file: Option<&str>, said: &str) -> String {
        // Whole, but from an engine that knows more.
        if said.starts_with("Unknown command") {
            return self.newer_engine();
        }
        let logs = self.data.join(LOG_DIR);
        let Some(file) = file else {
            return format!("restore {} from a copy", word(&logs));
        };
        let path = word(&logs.join(file));
        let is_rdb = Path::new(file).extension().is_some_and(|e| e == "rdb");
        let tool = check_tool(self.program, if is_rdb { "rdb" } else { "aof" });
        if !said.starts_with("No such file") && is_cut_off(self.data, file) {
            let dir = word(self.data);
            return format!(
                "keep a copy of {dir} and cut off what follows the damage: {tool} --fix {path}"
            );
        }
        let logs = word(&logs);
        format!("restore {logs} from a copy, and see that it is whole: {tool} {path}")
    }

    fn newer_engine(&self) -> String {
        let dir = word(self.dir);
        format!(
            "start it with the engine that wrote its data, or a newer one: shardwright up --dir {dir} --engine PATH"
        )
    }

    /// `said`: what could not be done, and what the system said of it.
    fn permission(&self, said: &str) -> Option<String> {
        let (dir, data) = (word(self.dir), word(self.data));
        if said.contains("listening socket") {
            return Some(format!(
                "choose ports from 1024 up, which any user may listen at: shardwright down --dir {dir}, then shardwright up \
                 --dir {dir} --port PORT"
            ));
        }
        if said.contains("Read-only file system") {
            return Some(format!(
                "mount that file system so that it can be written to: findmnt -T {data}"
            ));
        }
        let denied = said.contains("Permission denied");
        denied.then(|| {
            format!("let the user that runs it read and write there: chmod -R u+rwX {data}")
        })
    }
}

/// Whether the tool cuts a damaged file off: only the last that the log's manifest lists, and no RDB file.
fn is_cut_off(data: &Path, file: &str) -> bool {
    let manifest = fs::read_to_string(data.join(LOG_DIR).join(LOG_MANIFEST));
    // `file NAME seq N type TYPE`: the base first.
    let listed = |text: &str| {
        let line = text.lines().rfind(|line| line.starts_with("file "))?;
        Some(line.split_whitespace().nth(1)? == file)
    };
    !file.contains(".base.") && manifest.ok().and_then(|text| listed(&text)) == Some(true)
}

/// The command that checks a file of this server's, `aof` or `rdb`. Where the tool is not beside the program, the program
/// is that tool when it is called by its name.
fn check_tool(program: &Path, what: &str) -> String {
    let name = program.file_name().map(|n| n.to_string_lossy());
    let is_valkey = name.is_some_and(|name| name.contains("valkey"));
    let engine = if is_valkey { "valkey" } else { "redis" };
    let tool = format!("{engine}-check-{what}");
    let beside = program.with_file_name(&tool);
    if beside.is_file() {
        return word(&beside);
    }
    format!("bash -c 'exec -a {tool} \"$0\" \"$@\"' {}", word(program))
}

/// A path as one word of a shell's command.
fn word(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    if text.chars().all(is_plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::sync::PoisonError;

    use shardwright_manifest::redis_conf;

    use super::*;
    use crate::local::{CONF, MANIFEST};
    use crate::state::{self, ServerNote, State};

    /// A cluster in this directory whose server c-0 ended at once, as process 7, for a damaged log.
    fn ended(dir: &Path) -> Result<Local, Box<dyn Error>> {
        let program = dir.join("redis-server");
        fs::write(&program, "")?;
        let server = ServerNote {
            index: 0,
            port: 7000,
            node: None,
        };
        let state = State {
            version: 1,
            name: "c".to_owned(),
            engine: program.clone(),
            formed: None,
            servers: [("c-0".to_owned(), server.clone())].into(),
            former: None,
        };
        state::write(dir, &state)?;
        let manifest = "apiVersion: shardwright.dev/v1alpha1\nkind: RedisCluster\nmetadata: {name: c}\nspec: {shards: 3}\n";
        fs::write(dir.join(MANIFEST), manifest)?;
        let local = Local::open(dir)?;
        let (node, logs) = (local.node_dir("c-0"), local.data_dir("c-0").join(LOG_DIR));
        fs::create_dir_all(&logs)?;
        let conf = redis_conf(&local.cluster, &local.settings("c-0", &server))?;
        fs::write(node.join(CONF), conf)?;
        fs::write(logs.join(LOG_MANIFEST), "file")?;
        let last = Identity {
            pid: 7,
            start_ticks: 1,
            boot_id: "another".to_owned(),
            program: Some(program),
        };
        fs::write(node.join(PROCESS), serde_json::to_string(&last)?)?;
        let line = |text: &str| format!("7:M 30 Nov 2026 11:48:50.123 # {text}\n");
        let said = "Bad file format reading the append only file appendonly.aof.1.incr.aof: fix it";
        let log = line("Redis version=7.0.15, pid=7, just started") + &line(said);
        fs::write(local.log_file("c-0"), log)?;
        Ok(local)
    }

    fn fails_at_once(local: &Local) -> Result<Option<ProcessError>, LocalError> {
        let failed = local.failed.lock();
        let mut failed = failed.unwrap_or_else(PoisonError::into_inner);
        failed.insert("c-0".to_owned());
        drop(failed);
        local.failed_at_once("c-0")
    }

    #[test]
    fn what_failed_at_once_is_told_once_and_not_where_its_cause_is_gone()
    -> Result<(), Box<dyn Error>> {
        let dir = tempfile::tempdir()?;
        let local = ended(dir.path())?;
        assert!(local.failed_at_once("c-0")?.is_none(), "nothing failed");
        let told = fails_at_once(&local)?.map(|error| error.to_string());
        assert!(told.is_some_and(|told| told.contains("is damaged: Bad file format")));
        assert!(local.failed_at_once("c-0")?.is_none(), "it is told once");
        // Whatever its log says, another configuration may be accepted.
        let conf = local.node_dir("c-0").join(CONF);
        let before = fs::read_to_string(&conf)?;
        fs::write(&conf, "maxmemory-polic noeviction\n")?;
        assert!(fails_at_once(&local)?.is_none(), "it is declared anew");
        fs::write(&conf, before)?;
        assert!(fails_at_once(&local)?.is_some());
        // So may other data.
        fs::remove_dir_all(local.data_dir("c-0"))?;
        assert!(fails_at_once(&local)?.is_none(), "its data was taken away");
        Ok(())
    }

    #[test]
    fn a_cut_log_is_repaired_by_the_tool_beside_the_program_or_the_program_itself()
    -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        let program = dir.path().join("valkey-server");
        let data = dir.path().join("my cluster");
        fs::create_dir_all(data.join(LOG_DIR))?;
        let manifest = data.join(LOG_DIR).join(LOG_MANIFEST);
        let listed = "file appendonly.aof.2.base.rdb seq 2 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\nfile appendonly.aof.2.incr.aof seq 2 type i\n";
        fs::write(&manifest, listed)?;
        let damaged = |number: u32| WhyNotStarted::CorruptAof {
            file: Some(format!("appendonly.aof.{number}.incr.aof")),
            said: "Bad file format".to_owned(),
        };
        let incr = data.join(LOG_DIR).join("appendonly.aof.2.incr.aof");
        let (shown, incr) = (data.display(), incr.display());
        let place = Place {
            dir: dir.path(),
            data: &data,
            program: &program,
        };
        let begin = format!("keep a copy of '{shown}' and cut off what follows the damage: ");
        let itself = format!(
            "{begin}bash -c 'exec -a valkey-check-aof \"$0\" \"$@\"' {} --fix '{incr}'",
            program.display()
        );
        assert_eq!(place.remedy(&damaged(2)), Some(itself));
        let tool = dir.path().join("valkey-check-aof");
        fs::write(&tool, "")?;
        let beside = format!("{begin}{} --fix '{incr}'", tool.display());
        assert_eq!(place.remedy(&damaged(2)), Some(beside));
        // The tool cuts off nothing but the end of the last.
        let told = place.remedy(&damaged(1));
        assert!(told.is_some_and(|told| told.starts_with("restore ")));
        // It can't open what is not there.
        let missing = WhyNotStarted::CorruptAof {
            file: Some("appendonly.aof.2.incr.aof".to_owned()),
            said: "No such file or directory".to_owned(),
        };
        let told = place.remedy(&missing);
        assert!(told.is_some_and(|told| told.starts_with("restore ") && !told.contains("--fix")));
        Ok(())
    }

    #[test]
    fn what_a_newer_engine_wrote_is_not_cut_off() {
        let dir = Path::new("/srv/my cluster");
        let place = Place {
            dir,
            data: &dir.join("nodes/c-0/data"),
            program: Path::new("/opt/redis-server"),
        };
        let unknown = WhyNotStarted::CorruptAof {
            file: Some("appendonly.aof.1.incr.aof".to_owned()),
            said: "Unknown command 'HPEXPIREAT'".to_owned(),
        };
        let told = place.remedy(&unknown);
        assert_eq!(told, place.remedy(&WhyNotStarted::RdbTooNew { format: 12 }));
        let command = ": shardwright up --dir '/srv/my cluster' --engine PATH";
        assert!(told.is_some_and(|told| told.ends_with(command)));
    }

    #[test]
    fn a_permission_is_given_where_it_lacks() {
        let dir = Path::new("/srv/c");
        let place = Place {
            dir,
            data: &dir.join("nodes/c-0/data"),
            program: Path::new("/opt/redis-server"),
        };
        let told = |said: &str| {
            let said = said.to_owned();
            place.remedy(&WhyNotStarted::NotPermitted { said })
        };
        let says = |said: &str, what: &str| told(said).is_some_and(|told| told.contains(what));
        let file = "Can't open the append-only file appendonly.aof: Permission denied";
        assert!(says(file, ": chmod -R u+rwX /srv/c/nodes/c-0/data"));
        let fixed = "Can't open or create append-only dir appendonlydir: Read-only file system";
        assert!(says(fixed, ": findmnt -T /srv/c/nodes/c-0/data"));
        let port = "Warning: Could not create server TCP listening socket 127.0.0.1:80: bind: Permission denied";
        assert!(says(port, "shardwright up --dir /srv/c --port PORT"));
        assert_eq!(told("Can't chdir to '/srv': Operation not permitted"), None);
    }

    #[test]
    fn what_no_tool_repairs_is_to_be_restored() {
        let place = Place {
            dir: Path::new("/srv"),
            data: Path::new("/srv/data"),
            program: Path::new("/opt/redis-server"),
        };
        let base = WhyNotStarted::CorruptAof {
            file: Some("appendonly.aof.1.base.rdb".to_owned()),
            said: "Error reading the RDB base file".to_owned(),
        };
        let told = place.remedy(&base);
        let told = told.expect("there is something to do");
        assert!(told.starts_with("restore /srv/data/appendonlydir from a copy"));
        assert!(!told.contains("--fix"), "{told}");
        let said = "RDB CRC error".to_owned();
        let told = place.remedy(&WhyNotStarted::CorruptRdb { said });
        let told = told.expect("there is something to do");
        assert!(
            told.ends_with("/opt/redis-server /srv/data/dump.rdb"),
            "{told}"
        );
        assert!(told.contains("redis-check-rdb"), "{told}");
    }

    #[test]
    fn a_path_is_one_word() {
        assert_eq!(word(Path::new("/srv/a-1/b_2.x")), "/srv/a-1/b_2.x");
        assert_eq!(word(Path::new("/srv/it's $x")), r"'/srv/it'\''s $x'");
    }
}
