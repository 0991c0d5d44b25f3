//! Child processes that never outlive the test process.

use std::path::Path;
use std::process::{Child, Command};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock};

type Job = (Command, Sender<std::io::Result<Child>>);

/// Starts the command from a thread that lives as long as this process.
///
/// `setpriv --pdeathsig KILL` ends the child when the *thread* that started it ends: with a
/// thread of our own that is the end of the process, also when it was killed.
pub(crate) fn spawn(command: Command) -> std::io::Result<Child> {
    static SPAWNER: OnceLock<Mutex<Sender<Job>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, jobs) = channel::<Job>();
        std::thread::Builder::new()
            .name("testkit-spawner".into())
            .spawn(move || {
                for (mut command, reply) in jobs {
                    if reply.send(command.spawn()).is_err() {
                        // The asker is gone, and its child was reaped with it by pdeathsig.
                        break;
                    }
                }
            })
            .expect("a thread can be started");
        Mutex::new(sender)
    });
    let (reply, answer) = channel();
    let gone = || std::io::Error::other("the spawner thread is gone");
    spawner
        .lock()
        .map_err(|_| gone())?
        .send((command, reply))
        .map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}

/// The command for a server binary, tied to the life of this process where that is possible.
pub(crate) fn command(binary: &Path) -> Command {
    static SETPRIV: OnceLock<bool> = OnceLock::new();
    let has_setpriv = *SETPRIV.get_or_init(|| {
        Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "true"])
            .status()
            .is_ok_and(|status| status.success())
    });
    if has_setpriv {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(binary);
        command
    } else {
        Command::new(binary)
    }
}
