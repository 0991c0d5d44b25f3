//! The wish of a person, or of the system, that this program ends.

use std::fs;
use std::io;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Ends at the first SIGINT, SIGTERM or SIGHUP, at once where one came already. From the moment this is called none of them
/// ends the process by itself, and none that comes between two calls is lost. A process that was started to outlive its
/// terminal (`nohup`) goes on at SIGHUP.
pub(crate) fn stop() -> io::Result<impl Future<Output = ()>> {
    listen()?;
    let mut came = CAME.subscribe();
    // Its sender is never dropped, so that it ends by a signal alone.
    Ok(async move { drop(came.wait_for(|number| *number > 0).await) })
}

fn listen() -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let hangup = if ignores_hangup(&fs::read_to_string("/proc/self/status")?) {
        None
    } else {
        Some(signal(SignalKind::hangup())?)
    };
    if LISTENS.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    tokio::spawn(async move {
        let came = tokio::select! {
            _ = interrupt.recv() => SignalKind::interrupt(),
            _ = terminate.recv() => SignalKind::terminate(),
            () = received(hangup) => SignalKind::hangup(),
        };
        let number = u8::try_from(came.as_raw_value()).unwrap_or(0);
        CAME.send_replace(number);
    });
    Ok(())
}

/// Ends when the signal comes; never where nobody listens to it.
async fn received(signal: Option<Signal>) {
    match signal {
        Some(mut signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether a process ignores SIGHUP, by its `/proc/PID/status`: signal N is bit N - 1 of `SigIgn` (proc(5)).
fn ignores_hangup(status: &str) -> bool {
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    // Where that is not known it is left as it is.
    ignored.is_none_or(|ignored| ignored & 1 != 0)
}

/// Whether this process listens to signals.
static LISTENS: AtomicBool = AtomicBool::new(false);

/// The signal that asked this process to end, 0 while none did. A signal is the whole process's, and so is this.
static CAME: LazyLock<watch::Sender<u8>> = LazyLock::new(|| watch::Sender::new(0));

/// The number of the signal that asked this process to end, if one did.
pub(crate) fn signal_that_came() -> Option<u8> {
    Some(*CAME.borrow()).filter(|number| *number > 0)
}

/// What was begun was ended by a signal before it was done. The exit status is 128 + the signal's number, as shells
/// have it: 130 after Ctrl-C, 143 after SIGTERM.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Interrupted(pub(crate) String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_of_nohup_ignores_hangups() {
        let status =
            |ignored: &str| format!("Name:\tx\nSigBlk:\t0\nSigIgn:\t{ignored}\nSigCgt:\t3\n");
        assert!(ignores_hangup(&status("0000000000001001")));
        assert!(!ignores_hangup(&status("0000000000001000")));
        assert!(ignores_hangup(""), "it is not known");
    }
}
