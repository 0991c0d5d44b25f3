//! Requests from one run to the run that holds the lock of a local cluster: what goes over its socket, and the side that
//! asks. A line of JSON is a message: one [`Envelope`] that way, any number of [`Answer`]s this way.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use shardwright_runtime::MoveProgress;
use shardwright_runtime_local::connect_to_holder;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::cli::Pace;
use crate::exit::{ExitStatus, NotDone, WhyNotDone};
use crate::printer::Printer;
use crate::progress::Progress;
use crate::stop::{Interrupted, stop};
use crate::target::{Target, local_dir};
use crate::verb_result::Told;

/// The version of these messages. Another one is refused with a clear word.
pub(crate) const VERSION: u32 = 1;
/// How long whoever holds the lock may take to say that it has read a request: a pass ends within seconds.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// A request, with what is needed to answer it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Envelope {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// Whether data is written for programs.
    pub(crate) json: bool,
    /// What is asked for.
    pub(crate) request: Request,
}

/// What a run asks of the one that holds the lock.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case")]
pub(crate) enum Request {
    /// Declare the cluster anew, and bring it there: `up`, `scale`, `cancel`.
    Up(Declaration),
    /// Make a replica the primary of its shard.
    Failover(Promotion),
    /// Repair what is wrong.
    Fix(Repair),
    /// Even the slots out, where they are not.
    Rebalance {
        /// How long it may take, in seconds.
        timeout_s: u64,
        /// What moving slots may cost.
        pace: PaceNote,
    },
    /// Stop all servers.
    Down {
        /// Whether the cluster is removed too. The person agreed.
        purge: bool,
    },
}

/// A declaration.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Declaration {
    /// The verb that was typed.
    pub(crate) typed: String,
    /// The document, as it is to be stored.
    pub(crate) manifest: String,
    /// The server program.
    pub(crate) engine: PathBuf,
    /// The first port, if one was asked for.
    pub(crate) port: Option<u16>,
    /// The directory of given passwords.
    pub(crate) secrets: Option<PathBuf>,
    /// How long it may take, in seconds.
    pub(crate) timeout_s: u64,
    /// Whether the loss of data is accepted.
    pub(crate) accept_data_loss: bool,
    /// What moving slots may cost.
    pub(crate) pace: PaceNote,
    /// What is said when it is so; how to connect, without.
    pub(crate) done: Option<String>,
}

/// Who is to become a primary, and how.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Promotion {
    /// The node, as it was typed.
    pub(crate) node: String,
    /// Past its primary, by vote.
    pub(crate) force: bool,
    /// Past its primary, without votes.
    pub(crate) takeover: bool,
    /// Whether a person stated that its primary is dead. A run of an older version does not send it.
    #[serde(default)]
    pub(crate) primary_is_dead: bool,
    /// How long it may take, in seconds.
    pub(crate) timeout_s: u64,
}

/// What `fix` was called with.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Repair {
    /// The target as it was typed, for the commands that are printed.
    pub(crate) target: String,
    /// The directory, if it was typed.
    pub(crate) dir: Option<PathBuf>,
    /// Whether the loss of data is accepted.
    pub(crate) accept_data_loss: bool,
    /// How long it may take, in seconds.
    pub(crate) timeout_s: u64,
}

/// What moving slots may cost, as it goes over the socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct PaceNote {
    max_pause_ms: u64,
    bandwidth_bytes_per_s: Option<u64>,
    force: bool,
}

impl From<Pace> for PaceNote {
    fn from(pace: Pace) -> Self {
        Self {
            // The grammar takes ten seconds at most.
            max_pause_ms: u64::try_from(pace.max_pause.as_millis()).unwrap_or(u64::MAX),
            bandwidth_bytes_per_s: pace.bandwidth,
            force: pace.force,
        }
    }
}

impl From<PaceNote> for Pace {
    fn from(note: PaceNote) -> Self {
        Self {
            max_pause: Duration::from_millis(note.max_pause_ms),
            bandwidth: note.bandwidth_bytes_per_s,
            force: note.force,
        }
    }
}

impl Request {
    /// The verb, as it is typed.
    pub(crate) fn verb(&self) -> &str {
        match self {
            Self::Up(declaration) => &declaration.typed,
            Self::Failover(_) => "failover",
            Self::Fix(_) => "fix",
            Self::Rebalance { .. } => "rebalance",
            Self::Down { .. } => "down",
        }
    }

    /// Whether it wants another cluster than there was to be: what worked for that ends.
    pub(crate) fn changes_goal(&self) -> bool {
        match self {
            Self::Up(_) | Self::Down { .. } => true,
            Self::Failover(_) | Self::Fix(_) | Self::Rebalance { .. } => false,
        }
    }
}

/// What the run that holds the lock says to the one that asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub(crate) enum Answer {
    /// The request was read, and is carried out.
    Accepted,
    /// The lock is free now: whoever asked does it by itself.
    Yielded,
    /// A line for standard output.
    Text {
        /// The line.
        line: String,
    },
    /// A line for standard error.
    Say {
        /// The line.
        line: String,
    },
    /// A line for standard error that stays beside the progress.
    Keep {
        /// The line.
        line: String,
    },
    /// What is done now.
    Now {
        /// The line.
        line: String,
    },
    /// How far slots have moved.
    Moves(Far),
    /// It has ended.
    End {
        /// With this exit status.
        status: u8,
        /// What it did, for programs.
        told: Option<Box<Told>>,
    },
}

/// [`MoveProgress`], as it goes over the socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Far {
    slots_moved: u64,
    slots_left: u64,
    keys_moved: u64,
    keys_per_s: Option<u64>,
    bytes_per_s: Option<u64>,
    eta_s: Option<u64>,
    paused: bool,
}

impl From<MoveProgress> for Far {
    fn from(far: MoveProgress) -> Self {
        Self {
            slots_moved: far.slots_moved,
            slots_left: far.slots_left,
            keys_moved: far.keys_moved,
            keys_per_s: far.keys_per_s,
            bytes_per_s: far.bytes_per_s,
            eta_s: far.eta_s,
            paused: far.paused,
        }
    }
}

impl From<Far> for MoveProgress {
    fn from(far: Far) -> Self {
        Self {
            slots_moved: far.slots_moved,
            slots_left: far.slots_left,
            keys_moved: far.keys_moved,
            keys_per_s: far.keys_per_s,
            bytes_per_s: far.bytes_per_s,
            eta_s: far.eta_s,
            paused: far.paused,
        }
    }
}

/// The directory of the local cluster that is meant, where a run takes requests for it.
pub(crate) async fn holder_of(
    target: &Target,
    dir: Option<&Path>,
) -> anyhow::Result<Option<PathBuf>> {
    let Target::Local(name) = target else {
        return Ok(None);
    };
    let dir = local_dir(name.as_deref(), dir.map(Path::to_owned))?;
    Ok(is_held(&dir).await?.then_some(dir))
}

/// As [`hand_over`], to the run that holds the lock of the local cluster that is meant.
pub(crate) async fn hand_over_at(
    target: &Target,
    dir: Option<&Path>,
    request: Request,
    out: &mut Printer,
) -> anyhow::Result<Option<ExitStatus>> {
    match holder_of(target, dir).await? {
        Some(dir) => hand_over(&dir, request, out).await,
        None => Ok(None),
    }
}

/// Whether a run takes requests for the cluster in this directory.
pub(crate) async fn is_held(dir: &Path) -> anyhow::Result<bool> {
    Ok(connect_to_holder(dir).await?.is_some())
}

/// Hands a request to the run that holds the lock, shows how it goes, and returns how it ended; what that run did is
/// recorded as done here. `None`: nobody took it, and it is to be carried out here.
///
/// # Errors
/// When the run that took it does not answer, or ended in the middle, and when this one was told to stop.
pub(crate) async fn hand_over(
    dir: &Path,
    request: Request,
    out: &mut Printer,
) -> anyhow::Result<Option<ExitStatus>> {
    let Some(stream) = connect_to_holder(dir).await? else {
        return Ok(None);
    };
    let holder = Holder::of(stream, dir)?;
    let pid = holder.pid.clone();
    let stop = stop().context("cannot listen to signals")?;
    let envelope = Envelope {
        version: VERSION,
        json: out.is_json(),
        request: request.clone(),
    };
    tokio::select! {
        biased;
        () = stop => {
            let goes_on = if request.changes_goal() {
                format!("process {pid} may go on with it; `shardwright status` says how far it is")
            } else {
                "running the command again goes on".to_owned()
            };
            Err(Interrupted(format!("stopped before it was done; {goes_on}")).into())
        }
        ended = holder.follow(&envelope, out) => ended,
    }
}

/// The run at the other end.
struct Holder {
    stream: BufReader<UnixStream>,
    dir: PathBuf,
    pid: String,
}

impl Holder {
    fn of(stream: UnixStream, dir: &Path) -> anyhow::Result<Self> {
        let pid = stream.peer_cred()?.pid();
        Ok(Self {
            stream: BufReader::new(stream),
            dir: dir.to_owned(),
            pid: pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string()),
        })
    }

    /// The next answer; `None` once the other end has closed.
    async fn next(&mut self) -> anyhow::Result<Option<Answer>> {
        let mut line = String::new();
        match self.stream.read_line(&mut line).await {
            Ok(0) => Ok(None),
            Ok(_) => {
                let answer = serde_json::from_str(&line);
                let answer = answer.with_context(|| {
                    format!(
                        "process {} answers as no shardwright of this version does",
                        self.pid
                    )
                })?;
                Ok(Some(answer))
            }
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    async fn follow(
        mut self,
        envelope: &Envelope,
        out: &mut Printer,
    ) -> anyhow::Result<Option<ExitStatus>> {
        let line = format!("{}\n", serde_json::to_string(envelope)?);
        let written = self.stream.write_all(line.as_bytes());
        match tokio::time::timeout(ANSWER_LIMIT, written).await {
            Ok(Ok(())) => {}
            // One that has just ended takes no more: then it is done here.
            Ok(Err(_)) => return Ok(None),
            Err(_) => return Err(self.no_answer().into()),
        }
        let Ok(first) = tokio::time::timeout(ANSWER_LIMIT, self.next()).await else {
            // It may be taking it up in this moment.
            out.record.begin();
            return Err(self.no_answer().into());
        };
        let mut answer = match first? {
            None | Some(Answer::Yielded) => return Ok(None),
            Some(answer) => answer,
        };
        let mut progress = None;
        loop {
            match answer {
                Answer::End { status, told } => {
                    if let Some(told) = told {
                        out.record.take_over(*told);
                    }
                    return Ok(Some(ExitStatus::of_code(status)));
                }
                Answer::Accepted => out.record.begin(),
                other => show(other, &mut progress, out)?,
            }
            let Some(next) = self.next().await? else {
                take_away(&mut progress);
                return Err(self.lost().into());
            };
            answer = next;
        }
    }

    fn no_answer(&self) -> NotDone {
        let text = format!(
            "{} is in use by another shardwright (process {}), which does not answer; stop it, and try again",
            self.dir.display(),
            self.pid
        );
        NotDone {
            remedy: Some("stop it, and try again".to_owned()),
            ..NotDone::new(WhyNotDone::NoAnswer, text)
        }
    }

    fn lost(&self) -> NotDone {
        let text = format!(
            "process {}, which carried it out, closed the connection before it said how it ended; running the command again \
             goes on",
            self.pid
        );
        NotDone {
            remedy: Some("run the command again".to_owned()),
            ..NotDone::new(WhyNotDone::RunLost, text)
        }
    }
}

/// Takes the line of progress away, where there is one.
fn take_away(progress: &mut Option<Progress>) {
    if let Some(progress) = progress.take() {
        progress.done();
    }
}

/// Shows an answer as the run itself would have.
fn show(answer: Answer, progress: &mut Option<Progress>, out: &mut Printer) -> anyhow::Result<()> {
    let mut shown = |out: &Printer| {
        progress
            .take()
            .unwrap_or_else(|| out.progress(shardwright_runtime::Total::default()))
    };
    match answer {
        Answer::Accepted | Answer::Yielded | Answer::End { .. } => {}
        Answer::Text { line } => {
            take_away(progress);
            out.text(&line)?;
        }
        Answer::Say { line } => {
            take_away(progress);
            out.say(&line);
        }
        Answer::Keep { line } => {
            let mut p = shown(out);
            p.keep(&line);
            *progress = Some(p);
        }
        Answer::Now { line } => {
            let mut p = shown(out);
            p.say(&line);
            *progress = Some(p);
        }
        Answer::Moves(far) => {
            let mut p = shown(out);
            p.moves(&far.into());
            *progress = Some(p);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_a_line_that_names_what_it_is() {
        let envelope = Envelope {
            version: VERSION,
            json: false,
            request: Request::Down { purge: true },
        };
        let text = serde_json::to_string(&envelope).expect("it is written");
        assert_eq!(
            text,
            r#"{"version":1,"json":false,"request":{"verb":"down","purge":true}}"#
        );
        let back: Envelope = serde_json::from_str(&text).expect("it is read");
        assert_eq!(back.request, envelope.request);
        let far = Answer::Moves(
            MoveProgress {
                slots_moved: 1,
                slots_left: 2,
                ..MoveProgress::default()
            }
            .into(),
        );
        let text = serde_json::to_string(&far).expect("it is written");
        assert!(
            text.starts_with(r#"{"answer":"moves","slots_moved":1,"#),
            "{text}"
        );
        assert_eq!(
            serde_json::from_str::<Answer>(&text).expect("it is read"),
            far
        );
    }
}
