//! The wish of a person, or of the system, that this program ends.

use std::io;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Ends at the first SIGINT or SIGTERM, at once where one came already. From the moment this is called neither ends the
/// process by itself, and none that comes between two calls is lost.
pub(crate) fn stop() -> io::Result<impl Future<Output = ()>> {
    listen()?;
    let mut came = CAME.subscribe();
    // Its sender is never dropped, so that it ends by a signal alone.
    Ok(async move { drop(came.wait_for(|number| *number > 0).await) })
}

fn listen() -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    if LISTENS.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    tokio::spawn(async move {
        let came = tokio::select! {
            _ = interrupt.recv() => SignalKind::interrupt(),
            _ = terminate.recv() => SignalKind::terminate(),
        };
        let number = u8::try_from(came.as_raw_value()).unwrap_or(0);
        CAME.send_replace(number);
    });
    Ok(())
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
