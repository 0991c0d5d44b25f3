//! The preStop hook: the server is told to end only when this returns.

use std::thread;
use std::time::{Duration, Instant};

use crate::args::Options;
use crate::client::{Client, NoAnswer};
use crate::login::{NoLogin, log_in};
use crate::resp::{self, Copies, Role, Value};
use crate::{Log, data, password};

/// A switchover takes some ms once it is asked for; who asks for it may need some s to see that this pod leaves.
const HAND_OVER: Duration = Duration::from_secs(10);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// One question.
const ASK_LIMIT: Duration = Duration::from_secs(1);
/// The clock of a file system ticks every 1 to 10 ms.
const TICK_LIMIT: Duration = Duration::from_millis(200);
const TICK_PAUSE: Duration = Duration::from_millis(1);

/// Marks the stop, waits while this node is a primary that others copy from, and marks it again: a snapshot finished
/// while it waited is not that of the stop. A primary without replicas has nobody to wait for: so it is when the whole
/// cluster stops.
///
/// It waits 10 s for the handover to a replica that has its copy; while none has, and one is still taking it, as long
/// as the options say: to stop sooner would leave nobody to hand over to.
///
/// It cannot fail: whatever it does not know or cannot do, the pod stops all the same.
pub fn prestop(options: &Options, log: Log) {
    mark(options, log);
    let mut waiter = Waiter {
        options,
        log,
        began: Instant::now(),
        copied: Instant::now(),
        client: None,
    };
    let done = waiter.wait();
    log(&done);
    mark(options, log);
    wait_past_mark(options, log);
    // Last: a held node ends at once when it is told so, and this program with it.
    waiter.stop_gate();
}

fn mark(options: &Options, log: Log) {
    if let Err(error) = data::mark_stop(&options.data) {
        let why = error.with_cause();
        log(&format!(
            "{why}; the next start may be held though the data is whole"
        ));
    }
}

/// The server saves at the earliest when this program has ended. Its snapshot is to be younger than the mark also on
/// a quick machine.
fn wait_past_mark(options: &Options, log: Log) {
    let deadline = Instant::now() + TICK_LIMIT;
    while Instant::now() < deadline {
        match data::mark_is_past(&options.data) {
            Ok(true) => return,
            Ok(false) => thread::sleep(TICK_PAUSE),
            Err(error) => return log(&error.with_cause()),
        }
    }
    log(
        "the clock of the file system stands still; the next start may be held though the data is whole",
    );
}

enum Look {
    /// It is worth waiting for the handover, and what is seen.
    Wait(String),
    /// No replica has its copy, and one is taking it; and what is seen.
    Copying(String),
    /// There is nothing to wait for, and why.
    Done(String),
}

struct Waiter<'a> {
    options: &'a Options,
    log: Log,
    began: Instant,
    /// When the replicas were last seen all still copying, or the beginning.
    copied: Instant,
    client: Option<Client>,
}

impl Waiter<'_> {
    /// Returns what ended the wait.
    fn wait(&mut self) -> String {
        let mut told = String::new();
        loop {
            let seen = match self.look() {
                Look::Done(why) => return why,
                Look::Wait(seen) => seen,
                Look::Copying(seen) => {
                    self.copied = Instant::now();
                    seen
                }
            };
            if told != seen {
                (self.log)(&format!("waiting: {seen}"));
                told.clone_from(&seen);
            }
            let left = self.left();
            if left.is_zero() {
                let seconds = self.began.elapsed().as_secs();
                return format!("stopping after {seconds} s of waiting, though {seen}");
            }
            thread::sleep(PAUSE.min(left));
        }
    }

    /// How long it may go on.
    fn left(&self) -> Duration {
        let in_all = Duration::from_secs(self.options.wait_seconds.into());
        let end = (self.began + in_all).min(self.copied + HAND_OVER);
        end.saturating_duration_since(Instant::now())
    }

    fn look(&mut self) -> Look {
        match self.ask(&["ROLE"]) {
            Ok(Value::Error(said)) => Look::Done(format!("stopping: ROLE says {said}")),
            Ok(answer) => match resp::role(&answer) {
                Some(Role::Primary { replicas }) => self.look_at_replicas(replicas),
                Some(Role::Replica { .. }) => Look::Done("stopping: no primary".into()),
                None => Look::Done("stopping: ROLE says nothing that is known here".into()),
            },
            Err(why) => unknown(why),
        }
    }

    /// `ROLE` lists the replicas that follow; those that are still to get their copy stand in `INFO` alone.
    fn look_at_replicas(&mut self, connected: usize) -> Look {
        let copies = match self.ask(&["INFO", "replication"]) {
            Ok(Value::Text(info)) => resp::copies(&info),
            // Without the right to ask it, what `ROLE` says has to do.
            Ok(_) => Copies {
                whole: connected,
                under_way: 0,
            },
            Err(why) => return unknown(why),
        };
        if copies.whole == 0 && copies.under_way > 0 {
            let copying = copies.under_way;
            Look::Copying(format!(
                "a primary with {copying} replicas, all still copying"
            ))
        } else if connected > 0 {
            Look::Wait(format!("a primary with {connected} connected replicas"))
        } else {
            Look::Done("stopping: a primary without connected replicas".into())
        }
    }

    fn ask(&mut self, words: &[&str]) -> Result<Value, NoLogin> {
        let limit = self.left().min(ASK_LIMIT);
        let mut client = match self.client.take() {
            Some(client) => client,
            None => log_in(self.options, limit)?,
        };
        let answer = client.ask(words, limit).map_err(NoLogin::Server)?;
        self.client = Some(client);
        Ok(answer)
    }

    /// Process 1 of a container ignores the signal to end unless it handles it, and the gate can't: so a node that is
    /// held is told by its gate.
    fn stop_gate(&mut self) {
        let Ok(mut gate) = Client::connect(self.options.gate_port, ASK_LIMIT) else {
            return; // Nobody is held.
        };
        let password = self.options.password_file.as_deref().map(password::read);
        let Some(Ok(password)) = password else {
            let said = "the gate holds, and without a password it can't be told to stop";
            return (self.log)(said);
        };
        for line in [&*format!("AUTH {password}"), "STOP"] {
            match gate.ask_gate(line, ASK_LIMIT) {
                Ok(said) if said.starts_with('+') => {}
                Ok(said) => return (self.log)(&format!("the gate says {said}")),
                Err(why) => return (self.log)(&format!("the gate does not answer: {why}")),
            }
        }
        (self.log)("the gate was told to stop");
    }
}

/// What the missing answer means for the wait.
fn unknown(why: NoLogin) -> Look {
    match why {
        NoLogin::Refused(why) => Look::Done(format!("stopping: {why}")),
        NoLogin::Server(why @ (NoAnswer::Refused | NoAnswer::Foreign)) => {
            Look::Done(format!("stopping: {why}"))
        }
        NoLogin::Server(why @ (NoAnswer::Closed | NoAnswer::Silent | NoAnswer::Failed(_))) => {
            Look::Wait(format!("the role is not known: {why}"))
        }
    }
}
