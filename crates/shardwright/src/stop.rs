//! The wish of a person, or of the system, that this program ends.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Ends at the first SIGINT or SIGTERM. From the moment this is called neither ends the process by itself.
pub(crate) fn stop() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
