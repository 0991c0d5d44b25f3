//! The start gate: holds until it is told to release or to stop. One thread per connection, few connections, short
//! times: a client that is silent or floods delays nobody else.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::args::Options;
use crate::disk::Disk;
use crate::gate_protocol::{Lines, Session, Then};
use crate::{Error, Log, password};

/// One operator, one probe now and then. When one more comes, the oldest that has not logged in has to go.
const CONNECTIONS_MAX: usize = 32;
/// A client has the password at hand.
const LOGIN_LIMIT: Duration = Duration::from_secs(2);
/// Between two lines of a client that has logged in.
const LINE_LIMIT: Duration = Duration::from_secs(30);
/// An answer is some 60 bytes; a client that does not take it is gone.
const WRITE_LIMIT: Duration = Duration::from_secs(1);
/// After `STOP`: so long the client may take to end before the container ends under it.
const FAREWELL_LIMIT: Duration = Duration::from_secs(1);
/// A listener that fails that often in a row will not recover.
const ACCEPT_FAILURES_MAX: u32 = 100;
/// More refusals than this are not logged: a flood must not fill the log.
const REFUSALS_LOGGED: u64 = 20;

/// How the hold ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Start the server.
    Release,
    /// Start it as a new node, and keep what is in its directory aside.
    Afresh,
    /// End without it.
    Stop,
}

/// Listens until it is told. Returns at once after the answer to that was sent.
///
/// # Errors
/// Where the port is taken, or the listener fails over and over.
pub fn hold(disk: &Disk, options: &Options, log: Log) -> Result<Told, Error> {
    let port = options.gate_port;
    let listener = listen(port).map_err(|source| Error::Listen { port, source })?;
    log(&format!(
        "held: this start would lose data; the gate on port {port} waits for RELEASE"
    ));
    let (told, tidings) = channel();
    let gate = Arc::new(Gate {
        disk: disk.clone(),
        options: options.clone(),
        log,
        told,
        open: Mutex::default(),
        refused: AtomicU64::new(0),
    });
    thread::spawn(move || accept(&gate, &listener));
    match tidings.recv() {
        Ok(result) => result.map_err(Error::Accept),
        // The accepting thread sends before it ends.
        Err(gone) => Err(Error::Accept(io::Error::other(gone))),
    }
}

/// All addresses of the pod; where there is no IPv6, those of IPv4.
fn listen(port: u16) -> io::Result<TcpListener> {
    let any = |ip: IpAddr| TcpListener::bind((ip, port));
    any(Ipv6Addr::UNSPECIFIED.into()).or_else(|_| any(Ipv4Addr::UNSPECIFIED.into()))
}

struct Gate {
    disk: Disk,
    options: Options,
    log: Log,
    told: Sender<io::Result<Told>>,
    open: Mutex<VecDeque<Open>>,
    refused: AtomicU64,
}

struct Open {
    number: u64,
    stream: TcpStream,
    logged_in: bool,
}

fn accept(gate: &Arc<Gate>, listener: &TcpListener) {
    let mut failures = 0;
    for (number, stream) in (0..).zip(listener.incoming()) {
        let kept = stream.and_then(|stream| Ok((stream.try_clone()?, stream)));
        let (twin, stream) = match kept {
            Ok(pair) => pair,
            Err(error) => {
                failures += 1;
                if failures > ACCEPT_FAILURES_MAX {
                    return gate.tell(Err(error));
                }
                continue;
            }
        };
        failures = 0;
        gate.enter(number, twin);
        let own = Arc::clone(gate);
        let serving = thread::Builder::new().spawn(move || {
            let why = own.serve(number, stream);
            own.leave(number);
            if let Err(why) = why {
                own.refusal(&why);
            }
        });
        if let Err(error) = serving {
            gate.leave(number);
            gate.refusal(&format!("no thread for it: {error}"));
        }
    }
}

impl Gate {
    fn serve(&self, number: u64, mut stream: TcpStream) -> Result<(), String> {
        let peer = match stream.peer_addr() {
            Ok(peer) => peer.to_string(),
            Err(_) => "somebody".to_owned(),
        };
        let broken = |e: io::Error| format!("{peer}: {e}");
        stream
            .set_write_timeout(Some(WRITE_LIMIT))
            .map_err(broken)?;
        let (mut session, mut lines) = (Session::default(), Lines::default());
        loop {
            let limit = if session.is_logged_in() {
                LINE_LIMIT
            } else {
                LOGIN_LIMIT
            };
            let line = match next_line(&mut stream, &mut lines, limit) {
                Ok(Some(line)) => line,
                Ok(None) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                    say(&mut stream, "-ERR this line is too long").map_err(broken)?;
                    return Err(format!("{peer}: its line is too long"));
                }
                Err(e) => return Err(broken(e)),
            };
            let options = &self.options;
            let (answer, then) =
                session.answer(&line, &self.disk, &options.user, || {
                    match &options.password_file {
                        Some(path) => password::read(path),
                        None => Err(Error::Usage("no --password-file was given".into())),
                    }
                });
            if session.is_logged_in() {
                self.trust(number);
            }
            say(&mut stream, &answer).map_err(broken)?;
            match then {
                Then::GoOn => {}
                Then::Refuse => return Err(format!("{peer}: {answer}")),
                Then::Release => {
                    (self.log)(&format!("released by {peer}"));
                    self.tell(Ok(Told::Release));
                    return Ok(());
                }
                Then::Afresh => {
                    (self.log)(&format!("told to start afresh by {peer}"));
                    self.tell(Ok(Told::Afresh));
                    return Ok(());
                }
                Then::Stop => {
                    (self.log)(&format!("told to stop by {peer}"));
                    wait_for_end(&mut stream);
                    self.tell(Ok(Told::Stop));
                    return Ok(());
                }
            }
        }
    }

    fn tell(&self, told: io::Result<Told>) {
        // An error means that somebody else told it first.
        self.told.send(told).ok();
    }

    fn enter(&self, number: u64, stream: TcpStream) {
        let mut open = self.open();
        if open.len() >= CONNECTIONS_MAX {
            let stranger = open.iter().position(|other| !other.logged_in);
            if let Some(oldest) = open.remove(stranger.unwrap_or(0)) {
                // Its thread sees the end; an error means that it is closed already.
                oldest.stream.shutdown(Shutdown::Both).ok();
            }
        }
        open.push_back(Open {
            number,
            stream,
            logged_in: false,
        });
    }

    fn trust(&self, number: u64) {
        if let Some(own) = self.open().iter_mut().find(|open| open.number == number) {
            own.logged_in = true;
        }
    }

    fn leave(&self, number: u64) {
        self.open().retain(|open| open.number != number);
    }

    fn open(&self) -> MutexGuard<'_, VecDeque<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refusal(&self, why: &str) {
        let before = self.refused.fetch_add(1, Ordering::Relaxed);
        if before < REFUSALS_LOGGED {
            (self.log)(&format!("the gate refused {why}"));
        } else if before == REFUSALS_LOGGED {
            (self.log)("the gate refused more; that is not logged any further");
        }
    }
}

/// `None` where the client has closed. `InvalidData` where the line is too long, `TimedOut` where it took too long.
fn next_line(
    stream: &mut TcpStream,
    lines: &mut Lines,
    limit: Duration,
) -> io::Result<Option<String>> {
    let deadline = Instant::now() + limit;
    let mut chunk = [0; 512];
    loop {
        match lines.next_line() {
            Ok(Some(line)) => return Ok(Some(line)),
            Ok(None) => {}
            Err(_) => return Err(io::ErrorKind::InvalidData.into()),
        }
        // The limit is the line's, not the byte's: a client that drips gains nothing.
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no line in time"));
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(None),
            Ok(read) => lines.push(&chunk[..read]),
            Err(e) if retry(&e) => {}
            Err(e) => return Err(e),
        }
    }
}

/// The deadline decides whether there is time for one more look.
fn retry(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

fn say(stream: &mut TcpStream, line: &str) -> io::Result<()> {
    stream.write_all(format!("{line}\n").as_bytes())
}

/// The hook that said `STOP` runs in the container that ends with this program.
fn wait_for_end(stream: &mut TcpStream) {
    let deadline = Instant::now() + FAREWELL_LIMIT;
    let mut chunk = [0; 64];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
            return;
        }
        match stream.read(&mut chunk) {
            Ok(0) => return,
            Err(e) if !retry(&e) => return,
            Ok(_) | Err(_) => {}
        }
    }
}
