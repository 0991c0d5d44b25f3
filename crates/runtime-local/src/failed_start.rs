//! Why a server's last process ended before it served, and what a person may do about it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use shardwright_topology::{StartFailure, WhyNotStarted};

use crate::disk::{self, LOG_DIR, LOG_MANIFEST, SNAPSHOT};
use crate::local::Local;
use crate::ports;
use crate::process::Identity;

impl Local {
    /// Why this run, the last of a server, ended before it served, by its own word in its log. `None` where that is not
    /// known, and where its program, its configuration or what it could not load has changed since: then it may start.
    pub(crate) fn start_failure(&self, name: &str, last: &Identity) -> Option<Box<StartFailure>> {
        let (data, log) = (self.data_dir(name), self.log_file(name));
        let why = match disk::start_failure(&data, &log, last.pid) {
            Ok(why) => why?,
            Err(error) => {
                tracing::warn!(log = %log.display(), %error, "the log is not read");
                return None;
            }
        };
        let program = &self.state.engine;
        let same = last.program.as_ref() == Some(program) && !was_replaced(program, &log);
        if !same || !self.is_configured_alike(name) {
            return None;
        }
        let remedy = remedy(&why, &data, program);
        Some(Box::new(StartFailure { why, remedy }))
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

/// What a person may do, for a server of this program with this directory of data; at the end a command, where one does
/// it or tells more.
fn remedy(why: &WhyNotStarted, data: &Path, program: &Path) -> Option<String> {
    let dir = word(data);
    let manifest = || word(&data.join(LOG_DIR).join(LOG_MANIFEST));
    let tool = |what| check_tool(program, what);
    Some(match why {
        WhyNotStarted::BadConfig { .. } => {
            "correct spec.config in the manifest, and give that to shardwright up -f".to_owned()
        }
        WhyNotStarted::BadUsers { .. } => {
            "correct spec.users in the manifest, and give that to shardwright up -f".to_owned()
        }
        WhyNotStarted::CorruptAof {
            file: Some(file), ..
        } if is_cut_off(data, file) => format!(
            "keep a copy of {dir} and cut off what follows the damage: {} --fix {}",
            tool("aof"),
            manifest()
        ),
        WhyNotStarted::CorruptAof { .. } => format!(
            "restore {} from a copy, and see that it is whole: {} {}",
            word(&data.join(LOG_DIR)),
            tool("aof"),
            manifest()
        ),
        WhyNotStarted::CorruptRdb { .. } => {
            let file = word(&data.join(SNAPSHOT));
            let tool = tool("rdb");
            format!("restore {file} from a copy, and see that it is whole: {tool} {file}")
        }
        WhyNotStarted::RdbTooNew { .. } => {
            "start it with the engine that wrote its data, or a newer one: shardwright up --engine PATH"
                .to_owned()
        }
        WhyNotStarted::NoSpace { .. } => format!("free some space there: df -h {dir}"),
        WhyNotStarted::PortInUse { port } => {
            format!("stop what listens there: {}", ports::asked_for(*port))
        }
        WhyNotStarted::NotPermitted { .. } => {
            format!("let the user that runs it read and write there: chmod -R u+rwX {dir}")
        }
        // Where others serve every slot its directory is set aside; else the wait says what to do.
        WhyNotStarted::TableRefused => return None,
    })
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
    use super::*;

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
        let (shown, listed) = (data.display(), manifest.display());
        let begin = format!("keep a copy of '{shown}' and cut off what follows the damage: ");
        let itself = format!(
            "{begin}bash -c 'exec -a valkey-check-aof \"$0\" \"$@\"' {} --fix '{listed}'",
            program.display()
        );
        assert_eq!(remedy(&damaged(2), &data, &program), Some(itself));
        let tool = dir.path().join("valkey-check-aof");
        fs::write(&tool, "")?;
        let beside = format!("{begin}{} --fix '{listed}'", tool.display());
        assert_eq!(remedy(&damaged(2), &data, &program), Some(beside));
        // The tool cuts off nothing but the end of the last.
        let told = remedy(&damaged(1), &data, &program);
        assert!(told.is_some_and(|told| told.starts_with("restore ")));
        Ok(())
    }

    #[test]
    fn what_no_tool_repairs_is_to_be_restored() {
        let (data, program) = (Path::new("/srv/data"), Path::new("/opt/redis-server"));
        let base = WhyNotStarted::CorruptAof {
            file: Some("appendonly.aof.1.base.rdb".to_owned()),
            said: "Error reading the RDB base file".to_owned(),
        };
        let told = remedy(&base, data, program);
        let told = told.expect("there is something to do");
        assert!(told.starts_with("restore /srv/data/appendonlydir from a copy"));
        assert!(!told.contains("--fix"), "{told}");
        let said = "RDB CRC error".to_owned();
        let told = remedy(&WhyNotStarted::CorruptRdb { said }, data, program);
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
