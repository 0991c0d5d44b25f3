//! The wish of a person, or of the system, that this program ends.

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::signal::unix::{SignalKind, signal};

/// Ends at the first SIGINT or SIGTERM. From the moment this is called neither ends the process by itself.
pub(crate) fn stop() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        let came = tokio::select! {
            _ = interrupt.recv() => SignalKind::interrupt(),
            _ = terminate.recv() => SignalKind::terminate(),
        };
        let number = u8::try_from(came.as_raw_value()).unwrap_or(0);
        CAME.store(number, Ordering::Relaxed);
    })
}

/// The signal that asked this process to end, 0 while none did. A signal is the whole process's, and so is this.
static CAME: AtomicU8 = AtomicU8::new(0);

/// The number of the signal that asked this process to end, if one did.
pub(crate) fn signal_that_came() -> Option<u8> {
    Some(CAME.load(Ordering::Relaxed)).filter(|number| *number > 0)
}

/// What was begun was ended by a signal before it was done. The exit status is 128 + the signal's number, as shells
/// have it: 130 after Ctrl-C, 143 after SIGTERM.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Interrupted(pub(crate) String);
