//! The preStop hook: the server is told to end only when this returns.

use std::thread;
use std::time::{Duration, Instant};

use crate::args::Options;
use crate::client::{Client, NoAnswer};
use crate::resp::{self, Role, Value};
use crate::{Error, Log, data, password};

/// A switchover takes some ms once it is asked for; who asks for it may need some s to see that this pod leaves.
const LIMIT: Duration = Duration::from_secs(10);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// One question.
const ASK_LIMIT: Duration = Duration::from_secs(1);
/// The clock of a file system ticks every 1 to 10 ms.
const TICK_LIMIT: Duration = Duration::from_millis(200);
const TICK_PAUSE: Duration = Duration::from_millis(1);

/// Marks the stop, waits while this node is a primary that others copy from (10 s at most), and marks it again: a
/// snapshot finished while it waited is not that of the stop. A primary without replicas has nobody to wait for: so
/// it is when the whole cluster stops.
///
/// It cannot fail: whatever it does not know or cannot do, the pod stops all the same.
pub fn prestop(options: &Options, log: Log) {
    mark(options, log);
    let mut waiter = Waiter {
        options,
        log,
        deadline: Instant::now() + LIMIT,
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
        let why = told(&error);
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
            Err(error) => return log(&told(&error)),
        }
    }
    log(
        "the clock of the file system stands still; the next start may be held though the data is whole",
    );
}

/// An error and its cause.
fn told(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

enum Look {
    /// It is worth waiting, and for what.
    Wait(String),
    /// There is nothing to wait for, and why.
    Done(String),
}

struct Waiter<'a> {
    options: &'a Options,
    log: Log,
    deadline: Instant,
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
            };
            if told != seen {
                (self.log)(&format!("waiting: {seen}"));
                told.clone_from(&seen);
            }
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let seconds = LIMIT.as_secs();
                return format!("stopping after {seconds} s of waiting, though {seen}");
            }
            thread::sleep(PAUSE.min(left));
        }
    }

    fn look(&mut self) -> Look {
        let limit = self.deadline.saturating_duration_since(Instant::now());
        match self.ask_role(limit.min(ASK_LIMIT)) {
            Ok(Value::Error(said)) => Look::Done(format!("stopping: ROLE says {said}")),
            Ok(answer) => match resp::role(&answer) {
                Some(Role::Primary { replicas: 0 }) => {
                    Look::Done("stopping: a primary without connected replicas".into())
                }
                Some(Role::Primary { replicas }) => {
                    Look::Wait(format!("a primary with {replicas} connected replicas"))
                }
                Some(Role::Replica) => Look::Done("stopping: no primary".into()),
                None => Look::Done("stopping: ROLE says nothing that is known here".into()),
            },
            Err(Unknown::Login(why)) => Look::Done(format!("stopping: {why}")),
            Err(Unknown::Server(why @ (NoAnswer::Refused | NoAnswer::Foreign))) => {
                Look::Done(format!("stopping: {why}"))
            }
            Err(Unknown::Server(why)) => Look::Wait(format!("the role is not known: {why}")),
        }
    }

    fn ask_role(&mut self, limit: Duration) -> Result<Value, Unknown> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => self.log_in(limit)?,
        };
        let answer = client.ask(&["ROLE"], limit).map_err(Unknown::Server)?;
        self.client = Some(client);
        Ok(answer)
    }

    fn log_in(&self, limit: Duration) -> Result<Client, Unknown> {
        let mut client = Client::connect(self.options.port, limit).map_err(Unknown::Server)?;
        if let Some(path) = &self.options.password_file {
            let password = password::read(path).map_err(|e| Unknown::Login(told(&e)))?;
            let login = ["AUTH", &self.options.user, &password];
            let answer = client.ask(&login, limit).map_err(Unknown::Server)?;
            if let Value::Error(said) = answer {
                return Err(Unknown::Login(format!("the login was refused: {said}")));
            }
        }
        Ok(client)
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

enum Unknown {
    Login(String),
    Server(NoAnswer),
}
