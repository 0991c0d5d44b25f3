//! The side that takes requests: whoever holds the lock of a local cluster listens while it works.

use std::time::Duration;

use anyhow::Context;
use shardwright_runtime::Report;
use shardwright_runtime_local::{ControlSocket, Local};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::exit::{ExitStatus, Refusal};
use crate::handover::{Answer, Envelope, Request, VERSION};
use crate::printer::{Output, Printer};
use crate::report::causes;
use crate::stop::{signal_that_came, stop};
use crate::verb_result::Record;

/// The longest request: a manifest has some kilobytes.
const REQUEST_BYTES_MAX: u64 = 4 << 20;
/// How long a run may take to write its request, or to read an answer.
const PEER_LIMIT: Duration = Duration::from_secs(10);
/// How many requests may wait. Whoever comes later waits at the socket.
const WAITING_MAX: usize = 8;

/// A request that came, and the way back.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) request: Request,
    /// The process that asks.
    pub(crate) pid: i32,
    /// Prints where it was asked.
    pub(crate) out: Printer,
    answers: Answers,
    gone: Gone,
    writer: JoinHandle<()>,
}

/// Whether whoever asked has gone.
pub(crate) type Gone = watch::Receiver<bool>;

/// Where answers go.
pub(crate) type Answers = mpsc::UnboundedSender<Answer>;

impl Asked {
    /// What is asked for, where it is answered, and whether whoever asked has gone.
    pub(crate) fn parts(&mut self) -> (&Request, &mut Printer, &mut Gone) {
        (&self.request, &mut self.out, &mut self.gone)
    }

    /// Says that it is carried out now.
    pub(crate) fn accept(&self) {
        self.tell(Answer::Accepted);
    }

    /// Whether nobody waits for the answer any more.
    fn is_gone(&self) -> bool {
        *self.gone.borrow()
    }

    /// Says how it ended, and waits until that is written. Returns it.
    pub(crate) async fn end(mut self, ended: anyhow::Result<ExitStatus>) -> ExitStatus {
        let told = self.out.record.told(&ended);
        let status = ended.unwrap_or_else(|error| {
            self.out.error(&error);
            ExitStatus::of(&error)
        });
        self.tell(Answer::End {
            status: status.code(),
            told: Some(Box::new(told)),
        });
        self.close().await;
        status
    }

    /// Says that the lock is free, so that it is carried out where it was asked.
    pub(crate) async fn yield_to_it(self) {
        self.tell(Answer::Yielded);
        self.close().await;
    }

    fn tell(&self, answer: Answer) {
        // Whoever asked may be gone: then nobody is to be told.
        drop(self.answers.send(answer));
    }

    async fn close(self) {
        let Self {
            out,
            answers,
            writer,
            ..
        } = self;
        // The writer ends once nobody can give it anything any more.
        drop((out, answers));
        if let Err(error) = writer.await {
            tracing::warn!(%error, "the answer was not written");
        }
    }

    /// "`failover` (process 7)", for messages.
    pub(crate) fn what(&self) -> String {
        format!("`{}` (process {})", self.request.verb(), self.pid)
    }
}

/// The requests that come to this run.
#[derive(Debug)]
pub(crate) struct Requests {
    coming: mpsc::Receiver<Asked>,
    waiting: Option<Asked>,
    task: JoinHandle<()>,
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Requests {
    /// Listens for the cluster that this run may change. Where no socket can be made, as in some shared file systems, that
    /// is said, and the lock alone keeps others away.
    pub(crate) fn listen(local: &Local, out: &mut Printer) -> Self {
        let (tell, coming) = mpsc::channel(WAITING_MAX);
        let task = match local.listen() {
            Ok(socket) => tokio::spawn(accept(socket, tell)),
            Err(error) => {
                out.warn(&format!(
                    "no other run can ask this one for anything: {}",
                    causes(&error)
                ));
                tokio::spawn(async {})
            }
        };
        Self {
            coming,
            waiting: None,
            task,
        }
    }

    /// Ends once a request waits.
    pub(crate) async fn arrived(&mut self) {
        while self.waiting.is_none() {
            match self.coming.recv().await {
                // What nobody waits for any more is not begun.
                Some(asked) => self.waiting = Some(asked).filter(|asked| !asked.is_gone()),
                // Nobody listens any more, so nothing comes.
                None => std::future::pending().await,
            }
        }
    }

    /// The request that waits.
    pub(crate) fn waiting(&self) -> Option<&Asked> {
        self.waiting.as_ref()
    }

    /// The same, taken, where somebody still waits for the answer.
    pub(crate) fn take(&mut self) -> Option<Asked> {
        self.waiting.take().filter(|asked| !asked.is_gone())
    }

    /// Ends the listening. What came already still waits.
    pub(crate) async fn close(&mut self) {
        self.task.abort();
        // Aborted or not, the socket is gone with its task.
        drop((&mut self.task).await);
    }

    /// Says to all that wait that the lock is free.
    pub(crate) async fn yield_to_all(mut self) {
        let first = self.waiting.take();
        let rest = std::iter::from_fn(|| self.coming.try_recv().ok());
        for asked in first.into_iter().chain(rest) {
            asked.yield_to_it().await;
        }
    }
}

/// How soon after an error the next connection is taken: others may have ended, and given back what lacked.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

async fn accept(socket: ControlSocket, tell: mpsc::Sender<Asked>) {
    let mut again = tokio::time::interval(ACCEPT_AGAIN);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        match socket.accept().await {
            Ok(stream) => {
                let tell = tell.clone();
                tokio::spawn(async move {
                    if let Err(error) = read(stream, tell).await {
                        tracing::warn!(error = %format!("{error:#}"), "a request was not read");
                    }
                });
            }
            Err(error) => {
                // As for lack of file descriptors, which comes and goes. The first try comes at once.
                tracing::warn!(%error, "a request could not be taken, which is tried again");
                again.tick().await;
            }
        }
    }
}

/// Reads one request. A connection that closes without one asked only whether anybody is here.
async fn read(stream: UnixStream, tell: mpsc::Sender<Asked>) -> anyhow::Result<()> {
    let pid = stream
        .peer_cred()?
        .pid()
        .context("the asking process has no number")?;
    let (from, to) = stream.into_split();
    let mut line = String::new();
    let mut from = BufReader::new(from).take(REQUEST_BYTES_MAX);
    let read = tokio::time::timeout(PEER_LIMIT, from.read_line(&mut line)).await;
    if read.context("it was not written in time")?? == 0 {
        return Ok(());
    }
    let (answers, answered) = mpsc::unbounded_channel();
    let writer = tokio::spawn(write(to, answered));
    let envelope = match serde_json::from_str::<Envelope>(&line) {
        Ok(envelope) if envelope.version == VERSION => envelope,
        Ok(Envelope { version, .. }) => return refuse(&answers, &format!("of version {version}")),
        Err(error) => return refuse(&answers, &error.to_string()),
    };
    let output = if envelope.json {
        Output::Json
    } else {
        Output::Table
    };
    let (gone_tell, gone) = watch::channel(false);
    tokio::spawn(until_closed(from.into_inner(), gone_tell));
    let asked = Asked {
        request: envelope.request,
        pid,
        out: Printer::elsewhere(output, answers.clone()),
        answers,
        gone,
        writer,
    };
    // Where this run ends meanwhile the connection closes, and whoever asked does it alone.
    drop(tell.send(asked).await);
    Ok(())
}

fn refuse(answers: &Answers, what: &str) -> anyhow::Result<()> {
    let text = format!(
        "the running shardwright (process {}) is of another version, and can't read this request ({what}); stop it, and try again",
        std::process::id()
    );
    let line = format!("error: {text}");
    let refused = Err(Refusal(text).into());
    let end = Answer::End {
        status: ExitStatus::Refused.code(),
        told: Some(Box::new(Record::default().told(&refused))),
    };
    for answer in [Answer::Say { line }, end] {
        // Whoever asked may be gone: then nobody is to be told.
        drop(answers.send(answer));
    }
    anyhow::bail!("a request of another version came: {what}")
}

/// Ends when whoever asked closes its end.
async fn until_closed(mut from: BufReader<OwnedReadHalf>, tell: watch::Sender<bool>) {
    let mut rest = Vec::new();
    let mut from = (&mut from).take(REQUEST_BYTES_MAX);
    if let Err(error) = from.read_to_end(&mut rest).await {
        tracing::debug!(%error, "the connection of a request broke");
    }
    tell.send_replace(true);
}

async fn write(mut to: OwnedWriteHalf, mut answers: mpsc::UnboundedReceiver<Answer>) {
    while let Some(answer) = answers.recv().await {
        let line = match serde_json::to_string(&answer) {
            Ok(line) => line + "\n",
            Err(error) => {
                tracing::error!(%error, "an answer can't be written");
                return;
            }
        };
        let written = tokio::time::timeout(PEER_LIMIT, to.write_all(line.as_bytes())).await;
        if !matches!(written, Ok(Ok(()))) {
            // It is gone or reads no more. What it asked for ends by the other half, which is closed too.
            return;
        }
    }
}

/// Another request took the place of what was carried out.
#[derive(Debug, thiserror::Error)]
#[error("stopped before it was done: {by} was asked for meanwhile, and takes its place")]
pub(crate) struct Overtaken {
    /// What was asked for.
    by: String,
}

/// What ends a run early, and who is told of its passes.
#[derive(Default)]
pub(crate) struct Control<'a> {
    /// Requests of others.
    requests: Option<&'a mut Requests>,
    /// Whether whoever asked for this has gone.
    gone: Option<&'a mut Gone>,
    /// Who is told of each pass, beside the person who waits.
    tell: Option<&'a mut dyn FnMut(&Report)>,
}

impl<'a> Control<'a> {
    /// Nothing but signals ends it.
    pub(crate) fn signals() -> Self {
        Self::default()
    }

    /// Requests end it too.
    pub(crate) fn requests(requests: &'a mut Requests) -> Self {
        Self {
            requests: Some(requests),
            ..Self::default()
        }
    }

    /// So does the end of whoever asked.
    pub(crate) fn asked_by(self, gone: Option<&'a mut Gone>) -> Self {
        Self { gone, ..self }
    }

    /// This is told of each pass.
    pub(crate) fn telling(self, tell: &'a mut dyn FnMut(&Report)) -> Self {
        Self {
            tell: Some(tell),
            ..self
        }
    }

    /// What ends it, and who is told.
    ///
    /// # Errors
    /// When the system does not let this process listen to signals.
    pub(crate) fn parts(
        &mut self,
    ) -> anyhow::Result<(impl Future<Output = ()>, impl FnMut(&Report))> {
        let signal = stop().context("cannot listen to signals")?;
        let Self {
            requests,
            gone,
            tell,
        } = self;
        let ended = async move {
            let request = async {
                match requests {
                    Some(requests) => requests.arrived().await,
                    None => std::future::pending().await,
                }
            };
            let gone = async {
                match gone {
                    // The other half is dropped only after it has told.
                    Some(gone) => drop(gone.wait_for(|gone| *gone).await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = signal => {}
                () = request => {}
                () = gone => {}
            }
        };
        let tell = move |report: &Report| {
            if let Some(tell) = tell {
                tell(report);
            }
        };
        Ok((ended, tell))
    }

    /// Why it ended early, where a request did that.
    pub(crate) fn overtaken(&self) -> Option<Overtaken> {
        if signal_that_came().is_some() {
            return None;
        }
        let by = self.requests.as_ref()?.waiting()?.what();
        Some(Overtaken { by })
    }
}
