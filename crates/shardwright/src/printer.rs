//! The one place that prints: data to standard output, chatter to standard error.

use std::io::{self, Write};

use anyhow::Context;
use serde::Serialize;

/// How data is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Writes to the two streams of this process.
#[derive(Debug)]
pub(crate) struct Printer {
    output: Output,
    data: io::Stdout,
    chatter: io::Stderr,
}

impl Printer {
    pub(crate) fn new(output: Output) -> Self {
        Self {
            output,
            data: io::stdout(),
            chatter: io::stderr(),
        }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.output == Output::Json
    }

    /// Data, for people. A reader that has seen enough (`| head`) is no failure of ours, and what was begun goes on.
    pub(crate) fn text(&mut self, text: &str) -> anyhow::Result<()> {
        match writeln!(self.data.lock(), "{text}") {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written.context("cannot write to standard output"),
        }
    }

    /// Data, for programs.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> anyhow::Result<()> {
        self.text(&serde_json::to_string_pretty(value)?)
    }

    /// Chatter.
    pub(crate) fn say(&mut self, text: &str) {
        tell(&self.chatter, text);
    }

    pub(crate) fn warn(&mut self, text: &str) {
        self.say(&format!("warning: {text}"));
    }

    /// An error with its causes, the last line what went wrong at the bottom of it.
    pub(crate) fn error(&mut self, error: &anyhow::Error) {
        let mut text = format!("error: {error}");
        for cause in error.chain().skip(1) {
            let cause = cause.to_string();
            if !text.contains(&cause) {
                text.push_str("\n  because: ");
                text.push_str(&cause);
            }
        }
        if let Some(instead) = crate::hint::login(error) {
            text.push_str("\n  ");
            text.push_str(instead);
        }
        self.say(&text);
    }

    /// Asks for "yes" on the terminal, as redis-cli does. End of input is no.
    pub(crate) fn confirm(&mut self, question: &str) -> io::Result<bool> {
        write!(self.chatter.lock(), "{question} (type 'yes' to accept): ")?;
        let mut line = String::new();
        io::stdin().read_line(&mut line)?;
        Ok(line.trim() == "yes")
    }
}

/// Chatter from where no printer is at hand.
pub(crate) fn chatter(text: &str) {
    tell(&io::stderr(), text);
}

/// A standard error that takes no more is no reason to stop, and there is nowhere left to tell it.
fn tell(stream: &io::Stderr, text: &str) {
    drop(writeln!(stream.lock(), "{text}"));
}
