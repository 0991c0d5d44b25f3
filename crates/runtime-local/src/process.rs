//! Server processes: started so that they outlive us, and known again by more than their number.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use shardwright_topology::StartFailure;
use tokio::process::{Child, Command};

use crate::files;

/// Which process it was: a number alone may belong to a stranger after a while, or after a reboot.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Identity {
    /// Its number.
    pub pid: i32,
    /// When it began, in clock ticks since the boot (`/proc/PID/stat`, field 22).
    pub start_ticks: u64,
    /// Which boot that was.
    pub boot_id: String,
    /// Its program; `None` in what earlier versions noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<PathBuf>,
}

/// A process could not be started, found or told.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It did not start.
    #[error("cannot start {}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is noted of it can't be read or written.
    #[error("cannot use {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The signal was not delivered.
    #[error("cannot signal process {pid}")]
    Signal {
        /// Its number.
        pid: i32,
        /// Why.
        source: io::Error,
    },
    /// It went away while it was looked at, or has no number yet.
    #[error("the process ended at once{}the end of its log, {}:\n{said}", because(failure.as_deref()), log.display())]
    Gone {
        /// Why, and what may be done about it, where that is known.
        failure: Option<Box<StartFailure>>,
        /// Its log.
        log: PathBuf,
        /// The last lines of it.
        said: String,
    },
}

impl ProcessError {
    /// It ended at once: why, and what its log says last.
    pub(crate) fn gone(log: &Path, failure: Option<Box<StartFailure>>) -> Self {
        Self::Gone {
            failure,
            log: log.to_owned(),
            said: last_lines(log),
        }
    }
}

/// Why it ended, and what may be done about it, before its log.
fn because(failure: Option<&StartFailure>) -> String {
    match failure {
        None => "; ".to_owned(),
        Some(StartFailure { why, remedy: None }) => format!(": {why}; "),
        Some(StartFailure {
            why,
            remedy: Some(remedy),
        }) => format!(": {why}; {remedy}\n"),
    }
}

/// How many lines of a log tell why its server ended: the reason is in the last one or two.
const LINES: usize = 6;
/// How much of a log is read for that.
const TAIL: u64 = 4 * 1024;

/// The last lines of a log; why there are none, where it can't be read.
pub(crate) fn last_lines(log: &Path) -> String {
    let read = || {
        let mut file = fs::File::open(log)?;
        let from = file.metadata()?.len().saturating_sub(TAIL);
        file.seek(io::SeekFrom::Start(from))?;
        let mut tail = Vec::new();
        file.read_to_end(&mut tail)?;
        Ok::<_, io::Error>(tail)
    };
    let text = match read() {
        Ok(tail) => String::from_utf8_lossy(&tail).into_owned(),
        Err(error) => return format!("  (it can't be read: {error})"),
    };
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(LINES)..];
    if last.is_empty() {
        return "  (it is empty)".to_owned();
    }
    let indented: Vec<String> = last.iter().map(|l| format!("  {l}")).collect();
    indented.join("\n")
}

impl Identity {
    /// Reads what was noted. `None`: nothing was, so nothing of ours was started here.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, ProcessError> {
        let file = |source| ProcessError::File {
            path: path.to_owned(),
            source,
        };
        match fs::read_to_string(path) {
            Ok(text) => serde_json::from_str(&text)
                .map(Some)
                .map_err(|e| file(io::Error::other(e))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(file(e)),
        }
    }

    pub(crate) fn of(pid: i32) -> Option<Self> {
        Some(Self {
            pid,
            start_ticks: start_ticks(pid)?,
            boot_id: boot_id()?,
            program: None,
        })
    }

    /// Whether that very process lives. A zombie does not.
    pub fn lives(&self) -> bool {
        boot_id().as_deref() == Some(&self.boot_id)
            && start_ticks(self.pid) == Some(self.start_ticks)
    }

    /// A handle to that very process: what is sent through it reaches no other.
    fn handle(&self) -> io::Result<Option<OwnedFd>> {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return Ok(None);
        };
        match pidfd_open(pid, PidfdFlags::empty()) {
            // The handle was taken first, so if the process behind the number is ours now, the handle is its.
            Ok(handle) => Ok(self.lives().then_some(handle)),
            Err(rustix::io::Errno::SRCH) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Waits until that very process is gone. False: it still lives after this time.
    pub(crate) async fn gone(&self, limit: Duration) -> Result<bool, ProcessError> {
        let failed = |source| ProcessError::Signal {
            pid: self.pid,
            source,
        };
        let Some(handle) = self.handle().map_err(failed)? else {
            return Ok(true);
        };
        let limit = Timespec::try_from(limit).map_err(|e| failed(io::Error::other(e)))?;
        let waited = tokio::task::spawn_blocking(move || {
            // The handle of a process becomes readable when it ends (pidfd_open(2)).
            let mut ends = [PollFd::new(&handle, PollFlags::IN)];
            poll(&mut ends, Some(&limit))
        });
        let ready = waited.await.map_err(|e| failed(io::Error::other(e)))?;
        Ok(ready.map_err(|e| failed(e.into()))? > 0)
    }

    /// Sends a signal to that very process. False: it no longer lives.
    pub(crate) fn signal(&self, signal: Signal) -> Result<bool, ProcessError> {
        let failed = |source| ProcessError::Signal {
            pid: self.pid,
            source,
        };
        let Some(handle) = self.handle().map_err(failed)? else {
            return Ok(false);
        };
        match pidfd_send_signal(&handle, signal) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(e) => Err(failed(e.into())),
        }
    }
}

/// The first descriptor that a caller may have left open beside the three standard streams.
const FIRST_INHERITED: i32 = 3;

/// A server's command: it runs in its directory, and what it writes goes to the end of its log.
pub(crate) fn command(
    program: &Path,
    conf: &Path,
    dir: &Path,
    log: &Path,
) -> Result<Command, ProcessError> {
    let open = || OpenOptions::new().create(true).append(true).open(log);
    let file = |source| ProcessError::File {
        path: log.to_owned(),
        source,
    };
    let (out, err) = (open().map_err(file)?, open().map_err(file)?);
    // What our caller left open, a lock for example, would else be held for as long as the server runs.
    close_fds::set_fds_cloexec_threadsafe(FIRST_INHERITED, &[]);
    let mut command = Command::new(program);
    command
        .arg(conf)
        .current_dir(dir)
        // A locale that is not installed ends Redis 7.4 and Valkey 8 at once. Nothing of ours depends on one.
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err);
    Ok(command)
}

/// Starts a server in its directory, in a process group of its own, so that it outlives us and our terminal.
pub(crate) fn start(
    program: &Path,
    conf: &Path,
    dir: &Path,
    log: &Path,
    note: &Path,
) -> Result<Child, ProcessError> {
    let child = command(program, conf, dir, log)?
        .process_group(0)
        .kill_on_drop(false)
        .spawn()
        .map_err(|source| ProcessError::Start {
            program: program.to_owned(),
            source,
        })?;
    let gone = || ProcessError::gone(log, None);
    let pid = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .ok_or_else(gone)?;
    let identity = Identity {
        program: Some(program.to_owned()),
        ..Identity::of(pid).ok_or_else(gone)?
    };
    let text = serde_json::to_string(&identity).map_err(io::Error::other);
    let noted = text.and_then(|text| files::write(note, &text, files::PUBLIC));
    noted.map_err(|source| ProcessError::File {
        path: note.to_owned(),
        source,
    })?;
    Ok(child)
}

/// When a living process began; `None` when there is none of this number, or it has ended.
fn start_ticks(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; the fields after it are plain: the state is the third field of
    // the line, the number of threads the 20th, the start time the 22nd (proc(5)).
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let threads: u32 = fields.get(17)?.parse().ok()?;
    let ticks = fields.get(19)?.parse().ok()?;
    // A killed process is a zombie while its other threads still end, and they hold its ports until then.
    let ended = match *fields.first()? {
        "X" => true,
        "Z" => threads <= 1,
        _ => false,
    };
    (!ended).then_some(ticks)
}

fn boot_id() -> Option<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .ok()
        .map(|id| id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::Identity;

    #[test]
    fn a_living_process_is_known_and_a_stranger_with_its_number_is_not() {
        let me = i32::try_from(std::process::id()).expect("a pid fits");
        let myself = Identity::of(me).expect("this process lives");
        assert!(myself.lives());
        let stranger = Identity {
            start_ticks: myself.start_ticks + 1,
            ..myself.clone()
        };
        assert!(!stranger.lives());
        let before_reboot = Identity {
            boot_id: "another".to_owned(),
            ..myself
        };
        assert!(!before_reboot.lives());
        let sent = stranger
            .signal(rustix::process::Signal::KILL)
            .expect("it is not an error");
        assert!(!sent, "a stranger is never signalled");
    }
}
