//! The lines of the gate, without sockets.
//!
//! A line ends in `\n` or `\r\n`. `AUTH [USER] PASSWORD` comes first; then `STATE`, `RELEASE`, `AFRESH`, `STOP`.

use crate::Error;
use crate::disk::Disk;
use crate::password::same;

/// A line with its end; passwords of 512 characters fit.
pub const LINE_BYTES_MAX: usize = 1024;

/// Collects bytes into lines.
#[derive(Debug, Default)]
pub struct Lines {
    bytes: Vec<u8>,
}

/// More bytes than [`LINE_BYTES_MAX`] came without a line end.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLong;

impl Lines {
    /// Adds what came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes the next line, without its end.
    ///
    /// # Errors
    /// [`TooLong`]: the connection is to be closed.
    pub fn next_line(&mut self) -> Result<Option<String>, TooLong> {
        let Some(end) = self.bytes.iter().position(|b| *b == b'\n') else {
            let long = self.bytes.len() >= LINE_BYTES_MAX;
            return if long { Err(TooLong) } else { Ok(None) };
        };
        if end >= LINE_BYTES_MAX {
            return Err(TooLong);
        }
        let line: Vec<u8> = self.bytes.drain(..=end).collect();
        let line = line[..end].strip_suffix(b"\r").unwrap_or(&line[..end]);
        Ok(Some(String::from_utf8_lossy(line).into_owned()))
    }
}

/// What happens after the answer was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The connection waits for its next line.
    GoOn,
    /// The connection is closed: its client was refused.
    Refuse,
    /// The server is started.
    Release,
    /// What is in the directory is set aside, and the server is started as a new node.
    Afresh,
    /// The program ends, and the server is not started.
    Stop,
}

/// One connection.
#[derive(Debug, Default)]
pub struct Session {
    logged_in: bool,
}

impl Session {
    /// Whether the client has given the password.
    #[must_use]
    pub fn is_logged_in(&self) -> bool {
        self.logged_in
    }

    /// The answer to one line. `password` is asked only when it is needed: it may have changed since.
    pub fn answer(
        &mut self,
        line: &str,
        held: &Disk,
        user: &str,
        password: impl FnOnce() -> Result<String, Error>,
    ) -> (String, Then) {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let verb = verb.to_ascii_uppercase();
        if verb == "AUTH" {
            return self.log_in(rest, user, password);
        }
        if !self.logged_in {
            let said = "-ERR log in first: AUTH [USER] PASSWORD";
            return (said.into(), Then::Refuse);
        }
        match verb.as_str() {
            "STATE" => (format!("+held {held}"), Then::GoOn),
            "RELEASE" => ("+OK".into(), Then::Release),
            "AFRESH" => ("+OK".into(), Then::Afresh),
            "STOP" => ("+OK".into(), Then::Stop),
            _ => {
                let said = "-ERR this gate knows AUTH, STATE, RELEASE, AFRESH and STOP";
                (said.into(), Then::GoOn)
            }
        }
    }

    fn log_in(
        &mut self,
        given: &str,
        user: &str,
        password: impl FnOnce() -> Result<String, Error>,
    ) -> (String, Then) {
        self.logged_in = false;
        let password = match password() {
            Ok(password) => password,
            Err(why) => return (format!("-ERR no login here: {why}"), Then::Refuse),
        };
        let with_user = format!("{user} {password}");
        // Both are always compared, so that the time tells nothing.
        let (plain, named) = (same(given, &password), same(given, &with_user));
        if plain || named {
            self.logged_in = true;
            ("+OK".into(), Then::GoOn)
        } else {
            ("-ERR wrong password".into(), Then::Refuse)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn say(session: &mut Session, line: &str) -> (String, Then) {
        let own = Some("abc".to_owned());
        session.answer(line, &Disk::StalePrimary { own }, "me", || {
            Ok("pass word".into())
        })
    }

    #[test]
    fn nothing_is_told_or_done_before_the_password() {
        for line in [
            "STATE",
            "RELEASE",
            "AFRESH",
            "STOP",
            "",
            "PING",
            "AUTHX pass word",
        ] {
            let (said, then) = say(&mut Session::default(), line);
            assert!(said.starts_with("-ERR log in first"), "{line}: {said}");
            assert_eq!(then, Then::Refuse, "{line}");
        }
    }

    #[test]
    fn the_password_opens_with_and_without_the_name() {
        for line in ["AUTH pass word", "auth me pass word"] {
            let mut session = Session::default();
            assert_eq!(say(&mut session, line), ("+OK".into(), Then::GoOn));
            assert!(session.is_logged_in());
            let held = "+held stale-primary abc".to_owned();
            assert_eq!(say(&mut session, "STATE"), (held, Then::GoOn));
            assert_eq!(say(&mut session, "state").1, Then::GoOn);
            assert!(say(&mut session, "GET x").0.starts_with("-ERR"));
            assert_eq!(say(&mut session, "RELEASE"), ("+OK".into(), Then::Release));
            assert_eq!(say(&mut session, "AFRESH"), ("+OK".into(), Then::Afresh));
            assert_eq!(say(&mut session, "STOP"), ("+OK".into(), Then::Stop));
        }
    }

    #[test]
    fn a_wrong_password_closes_and_ends_an_earlier_login() {
        for line in [
            "AUTH",
            "AUTH ",
            "AUTH pass",
            "AUTH you pass word",
            "AUTH me",
        ] {
            let mut session = Session::default();
            assert_eq!(say(&mut session, "AUTH pass word").1, Then::GoOn);
            let (said, then) = say(&mut session, line);
            assert_eq!((&*said, then), ("-ERR wrong password", Then::Refuse));
            assert!(!session.is_logged_in());
        }
    }

    #[test]
    fn without_a_password_nobody_gets_in() {
        let empty = || Err(Error::EmptyPassword(PathBuf::from("/p")));
        let mut session = Session::default();
        let (said, then) = session.answer("AUTH ", &Disk::Blank, "me", empty);
        assert!(said.starts_with("-ERR no login here"), "{said}");
        assert_eq!(then, Then::Refuse);
    }

    #[test]
    fn lines_come_in_any_pieces_and_never_grow_without_bound() {
        let mut lines = Lines::default();
        lines.push(b"AU");
        assert_eq!(lines.next_line(), Ok(None));
        lines.push(b"TH x\r\nSTATE\n\nRE");
        for line in ["AUTH x", "STATE", ""] {
            assert_eq!(lines.next_line(), Ok(Some(line.into())));
        }
        assert_eq!(lines.next_line(), Ok(None));
        lines.push(&[b'x'; LINE_BYTES_MAX]);
        assert_eq!(lines.next_line(), Err(TooLong));
        let mut lines = Lines::default();
        lines.push(&[b'x'; LINE_BYTES_MAX]);
        lines.push(b"\n");
        assert_eq!(lines.next_line(), Err(TooLong));
    }
}
