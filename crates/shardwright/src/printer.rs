//! The one place that prints: data to standard output, chatter to standard error.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use serde::Serialize;
use shardwright_runtime::Total;

use crate::exit::ExitStatus;
use crate::handover::Answer;
use crate::progress::Progress;
use crate::requests::Answers;
use crate::table::{Room, USUAL_WIDTH};
use crate::verb_result::{Asked, Ending, Record};

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
    /// What is known of this run, told at its end where programs read.
    pub(crate) record: Record,
    /// A document that takes the place of the result: it goes to another program as it is.
    document: Option<String>,
    /// Whether results are lines: there are several.
    lines: bool,
    /// Whether the reader of the data has gone.
    unread: AtomicBool,
    /// Where everything goes instead, when another run asked for what is done.
    elsewhere: Option<Answers>,
}

impl Printer {
    pub(crate) fn new(output: Output) -> Self {
        Self {
            output,
            data: io::stdout(),
            chatter: io::stderr(),
            record: Record::default(),
            document: None,
            lines: false,
            unread: AtomicBool::new(false),
            elsewhere: None,
        }
    }

    /// Prints where another run asked.
    pub(crate) fn elsewhere(output: Output, answers: Answers) -> Self {
        Self {
            elsewhere: Some(answers),
            ..Self::new(output)
        }
    }

    /// Progress of long work, told where this prints. So much has moved already.
    pub(crate) fn progress(&self, moved: Total) -> Progress {
        match &self.elsewhere {
            None => Progress::new(moved),
            Some(answers) => Progress::elsewhere(moved, answers.clone()),
        }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.output == Output::Json
    }

    /// Data, for people; where programs read, chatter. A reader that has seen enough (`| head`) is no failure of ours, and
    /// what was begun goes on.
    pub(crate) fn text(&mut self, text: &str) -> anyhow::Result<()> {
        if self.is_json() {
            self.say(text);
            return Ok(());
        }
        self.write(text)
    }

    /// Where tables are read.
    pub(crate) fn room(&self) -> Room {
        if self.elsewhere.is_some() || !self.data.is_terminal() {
            return Room::Unbounded;
        }
        let width = rustix::termios::tcgetwinsize(&self.data).map_or(0, |size| size.ws_col);
        // A terminal that does not say is of the usual width.
        Room::Terminal(if width == 0 { USUAL_WIDTH } else { width })
    }

    /// Makes room for what is written next of what is written again and again: in the place of the last, or after it.
    pub(crate) fn redraw(&mut self, first: bool) -> anyhow::Result<()> {
        if self.is_json() {
            return Ok(());
        }
        if self.data.is_terminal() {
            let clear = write!(self.data.lock(), "\x1b[2J\x1b[H");
            return clear.context("cannot write to standard output");
        }
        if first { Ok(()) } else { self.write("") }
    }

    /// Writes what is known so far in a line, where programs read what is written again and again, and begins anew.
    pub(crate) fn line(&mut self, asked: &Asked, status: ExitStatus) -> anyhow::Result<()> {
        if self.is_json() {
            self.lines = true;
            let text = self.record.text(asked, &Ok(status), true)?;
            self.write(&text)?;
            self.record = Record::default();
        }
        Ok(())
    }

    /// Whether the reader of the data has gone: what is only told again and again ends then.
    pub(crate) fn is_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }

    fn write(&self, text: &str) -> anyhow::Result<()> {
        if let Some(answers) = &self.elsewhere {
            let line = text.to_owned();
            // A reader that is gone is no failure of ours.
            drop(answers.send(Answer::Text { line }));
            return Ok(());
        }
        match writeln!(self.data.lock(), "{text}") {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {
                self.unread.store(true, Ordering::Relaxed);
                Ok(())
            }
            written => written.context("cannot write to standard output"),
        }
    }

    /// A document for another program, such as kubectl, in place of the result of this run.
    pub(crate) fn document(&mut self, value: &impl Serialize) -> anyhow::Result<()> {
        self.document = Some(serde_json::to_string_pretty(value)?);
        Ok(())
    }

    /// A step that would be taken.
    pub(crate) fn would(&mut self, text: &str) -> anyhow::Result<()> {
        self.record.would(text);
        self.text(text)
    }

    /// Writes what programs read: once, at the end of the run.
    pub(crate) fn finish(
        &mut self,
        asked: &Asked,
        ended: &anyhow::Result<ExitStatus>,
    ) -> anyhow::Result<()> {
        if !self.is_json() {
            return Ok(());
        }
        match self.document.take().filter(|_| ended.is_ok()) {
            Some(document) => self.write(&document),
            None => self.write(&self.record.text(asked, ended, self.lines)?),
        }
    }

    /// Chatter.
    pub(crate) fn say(&mut self, text: &str) {
        match &self.elsewhere {
            None => tell(&self.chatter, text),
            Some(answers) => {
                let line = text.to_owned();
                // A reader that is gone is no failure of ours.
                drop(answers.send(Answer::Say { line }));
            }
        }
    }

    /// What is so now, at the end of a verb.
    pub(crate) fn done(&mut self, text: &str) {
        self.record.message(text);
        self.say(text);
    }

    /// What stays as it was, for a person did not agree.
    pub(crate) fn declined(&mut self, text: &str) {
        self.record.ending(Ending::Declined);
        self.done(text);
    }

    /// A text that is the whole of what was asked for.
    pub(crate) fn page(&mut self, text: &str) -> anyhow::Result<()> {
        if self.is_json() {
            return self.record.put("text", &text);
        }
        self.text(text)
    }

    pub(crate) fn warn(&mut self, text: &str) {
        self.record.warning(text);
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

    /// Asks for "yes" on the terminal, as redis-cli does. End of input is no, and so is another run's terminal: that run
    /// asks before it hands anything over.
    pub(crate) fn confirm(&mut self, question: &str) -> io::Result<bool> {
        if self.elsewhere.is_some() {
            return Ok(false);
        }
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
