//! `shardwright up --watch`, running beside the demo.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch::{Receiver, Sender, channel};

use crate::local::Failure;

/// Far beyond what it takes to bring a cluster back.
const LIMIT: Duration = Duration::from_secs(60);

/// The running watch. It is killed when this value is dropped; the servers run on.
pub(crate) struct Watch {
    child: Child,
    said: Receiver<Vec<String>>,
}

impl Watch {
    /// Starts it, and waits until it watches and has found all well.
    pub(crate) async fn begin(program: &Path, cluster: &str) -> Result<Self, Failure> {
        let mut child = Command::new(program)
            .args(["up", "--watch", "--name", cluster])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let pipe = child.stderr.take().ok_or("the watch has no stderr")?;
        let (tell, said) = channel(Vec::new());
        tokio::spawn(repeat(BufReader::new(pipe), tell));
        let mut watch = Self { child, said };
        watch.until_said("watching", 0).await?;
        watch.until_said("healthy", 0).await?;
        Ok(watch)
    }

    /// How many lines it has said.
    pub(crate) fn lines(&self) -> usize {
        self.said.borrow().len()
    }

    /// Waits for a line whose text, after its time and severity, begins so, after the first `skip` lines.
    pub(crate) async fn until_said(&mut self, begin: &str, skip: usize) -> Result<(), Failure> {
        let right =
            |lines: &Vec<String>| lines.iter().skip(skip).any(|l| text(l).starts_with(begin));
        match tokio::time::timeout(LIMIT, self.said.wait_for(right)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(format!("the watch ended before it said \"{begin}\"").into()),
            Err(_) => Err(format!("the watch did not say \"{begin}\" within {LIMIT:?}").into()),
        }
    }

    /// Ends it as an init system would.
    pub(crate) async fn end(mut self) -> Result<(), Failure> {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok());
        let pid = pid.and_then(Pid::from_raw);
        kill_process(pid.ok_or("the watch has ended by itself")?, Signal::TERM)?;
        let status = tokio::time::timeout(LIMIT, self.child.wait()).await??;
        if status.success() {
            Ok(())
        } else {
            Err(format!("the watch ended with {status}").into())
        }
    }
}

/// What a line tells, without when, and how grave it is.
fn text(line: &str) -> &str {
    let rest = line.split_once(' ').map_or(line, |(_, rest)| rest);
    rest.split_once(' ')
        .map_or(rest, |(_, text)| text.trim_start())
}

/// Shows every line, and keeps it for those who wait.
async fn repeat(pipe: BufReader<tokio::process::ChildStderr>, tell: Sender<Vec<String>>) {
    let mut lines = pipe.lines();
    // A pipe that can't be read is one that has ended.
    while let Ok(Some(line)) = lines.next_line().await {
        println!("   watch | {line}");
        tell.send_modify(|said| said.push(line));
    }
}
