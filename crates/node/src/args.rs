//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::Error;

/// What `--help` prints.
pub const HELP: &str = "\
The start gate, the probes and the preStop hook of a cluster node.

usage: shardwright-node VERB [OPTION...]

  install DEST                   copy this program to DEST (executable, replaced in one step)
  run [OPTION...] -- SERVER [CONF] [ARG...]
                                 judge the disk; hold while starting would lose data; then become SERVER
                                 (SERVER `auto`: valkey-server or redis-server, whichever is in PATH)
  started                        0 once the server has loaded its data, or while the gate holds
  ready                          0 if the server is of use: a primary with its data loaded, a replica that has had
                                 its copy since it started, a node that no cluster knows yet
  live                           0 unless the server is frozen; 0 while the gate holds
  prestop                        mark the stop, then wait until this node is no primary with replicas: 10 s, and
                                 while a replica is still copying as long as --wait-seconds says

options of run, started, ready, live and prestop:
  --data DIR                     the data directory (/data)
  --port PORT                    the server's client port (6379)
  --gate-port PORT               where the gate listens while it holds (6378)
  --user NAME                    the server's user for PING, ROLE and INFO, also taken by the gate (shardwright)
  --password-file FILE           that user's password; without one the gate lets nobody in, and the server is
                                 asked as the default user
  --wait-seconds SECONDS         how long prestop waits in all (10)

  --help, --version

exit status: 0 done, or yes; 1 failed, or no; 2 wrong command line. `run` ends as the server ends.

the gate's lines, each answered by one line (+... or -ERR ...):
  AUTH [USER] PASSWORD           first; a wrong password closes the connection
  STATE                          +held stale-primary LINE (its own line of nodes.conf)
  RELEASE                        +OK, and the server starts
  AFRESH                         +OK, its directory is kept aside, and it starts as a new node
  STOP                           +OK, and the program ends without starting the server
";

/// A parsed command line.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// `--help`.
    Help,
    /// `--version`.
    Version,
    /// `install DEST`.
    Install(PathBuf),
    /// `run … -- SERVER [CONF] [ARG...]`.
    Run(Options, Server),
    /// `started`.
    Started(Options),
    /// `ready`.
    Ready(Options),
    /// `live`.
    Live(Options),
    /// `prestop`.
    Prestop(Options),
}

/// What the verbs have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The data directory.
    pub data: PathBuf,
    /// The server's client port.
    pub port: u16,
    /// Where the gate listens while it holds.
    pub gate_port: u16,
    /// The server's user for `PING`, `ROLE` and `INFO`.
    pub user: String,
    /// Where that user's password is.
    pub password_file: Option<PathBuf>,
    /// How long `prestop` waits at most, in seconds.
    pub wait_seconds: u32,
}

/// The server to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// A path, a name in `PATH`, or `auto`.
    pub program: OsString,
    /// Its arguments; the first is its configuration file unless it begins with `-`.
    pub args: Vec<OsString>,
}

/// Reads the arguments after the program's name.
///
/// # Errors
/// [`Error::Usage`] says what is wrong.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, Error> {
    let mut args = args.into_iter();
    let verb = args
        .next()
        .ok_or_else(|| Error::Usage("no verb given".into()))?;
    let rest: Vec<OsString> = args.collect();
    let own = rest.iter().position(|arg| arg == "--");
    let asks = |name: &str| {
        rest[..own.unwrap_or(rest.len())]
            .iter()
            .any(|arg| arg == name)
    };
    let verb = verb.to_string_lossy();
    match &*verb {
        "help" | "--help" | "-h" => return Ok(Command::Help),
        "--version" | "-V" => return Ok(Command::Version),
        "install" | "run" | "started" | "ready" | "live" | "prestop"
            if asks("--help") || asks("-h") =>
        {
            return Ok(Command::Help);
        }
        _ => {}
    }
    match &*verb {
        "install" => match <[OsString; 1]>::try_from(rest) {
            Ok([dest]) if !dest.is_empty() => Ok(Command::Install(dest.into())),
            _ => Err(Error::Usage("install takes one argument, DEST".into())),
        },
        "run" => {
            let Some(own) = own else {
                return Err(Error::Usage("run needs `-- SERVER` at its end".into()));
            };
            let mut server = rest[own + 1..].iter().cloned();
            let program = server
                .next()
                .ok_or_else(|| Error::Usage("no SERVER follows `--`".into()))?;
            let server = Server {
                program,
                args: server.collect(),
            };
            Ok(Command::Run(options(&rest[..own])?, server))
        }
        "started" => options(&rest).map(Command::Started),
        "ready" => options(&rest).map(Command::Ready),
        "live" => options(&rest).map(Command::Live),
        "prestop" => options(&rest).map(Command::Prestop),
        other => Err(Error::Usage(format!("there is no verb `{other}`"))),
    }
}

fn options(args: &[OsString]) -> Result<Options, Error> {
    let mut found = Options {
        data: PathBuf::from("/data"),
        port: 6379,
        gate_port: 6378,
        user: "shardwright".into(),
        password_file: None,
        wait_seconds: 10,
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let text = arg.to_string_lossy();
        let (name, attached) = match text.split_once('=') {
            Some((name, value)) => (name, Some(OsString::from(value))),
            None => (&*text, None),
        };
        let known = [
            "--data",
            "--port",
            "--gate-port",
            "--user",
            "--password-file",
            "--wait-seconds",
        ];
        if !known.contains(&name) {
            return Err(Error::Usage(format!("there is no option `{name}`")));
        }
        let value = attached
            .or_else(|| args.next().cloned())
            .filter(|value| !value.is_empty())
            .ok_or_else(|| Error::Usage(format!("{name} needs a value")))?;
        match name {
            "--data" => found.data = value.into(),
            "--port" => found.port = port(name, &value)?,
            "--gate-port" => found.gate_port = port(name, &value)?,
            "--user" => found.user = value.to_string_lossy().into_owned(),
            "--wait-seconds" => found.wait_seconds = seconds(name, &value)?,
            _ => found.password_file = Some(value.into()),
        }
    }
    if found.port == found.gate_port {
        let why = "--port and --gate-port must differ";
        return Err(Error::Usage(why.into()));
    }
    Ok(found)
}

fn seconds(name: &str, value: &OsString) -> Result<u32, Error> {
    let value = value.to_string_lossy();
    value
        .parse()
        .map_err(|_| Error::Usage(format!("{name} takes whole seconds, not `{value}`")))
}

fn port(name: &str, value: &OsString) -> Result<u16, Error> {
    let value = value.to_string_lossy();
    match value.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(Error::Usage(format!(
            "{name} takes a port (1 to 65535), not `{value}`"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(OsString::from)).map_err(|e| {
            assert_eq!(e.status(), 2);
            e.to_string()
        })
    }

    #[test]
    fn the_line_of_a_pod_is_read_whole() {
        let line = "run --data /d --password-file /p/w -- redis-server /etc/redis.conf --cluster-announce-ip 10.0.0.1";
        let Ok(Command::Run(options, server)) = parsed(line) else {
            panic!("it is a run");
        };
        assert_eq!(options.data, PathBuf::from("/d"));
        assert_eq!((options.port, options.gate_port), (6379, 6378));
        assert_eq!(options.user, "shardwright");
        assert_eq!(options.password_file, Some(PathBuf::from("/p/w")));
        assert_eq!(server.program, "redis-server");
        let args = ["/etc/redis.conf", "--cluster-announce-ip", "10.0.0.1"];
        assert_eq!(server.args, args);
    }

    #[test]
    fn options_come_with_space_or_equals_and_have_defaults() {
        let Ok(Command::Ready(options)) = parsed("ready --port=7000 --gate-port 7001 --user=me")
        else {
            panic!("it is a probe");
        };
        assert_eq!(options.data, PathBuf::from("/data"));
        assert_eq!((options.port, options.gate_port), (7000, 7001));
        assert_eq!((&*options.user, options.password_file), ("me", None));
        assert_eq!(options.wait_seconds, 10);
        let Ok(Command::Prestop(options)) = parsed("prestop --wait-seconds 90") else {
            panic!("it is the hook");
        };
        assert_eq!(options.wait_seconds, 90);
    }

    #[test]
    fn the_servers_own_words_are_not_ours() {
        let Ok(Command::Run(_, server)) = parsed("run -- redis-server --help") else {
            panic!("the help asked for is the server's");
        };
        assert_eq!(server.args, ["--help"]);
        assert_eq!(parsed("run --help -- x"), Ok(Command::Help));
        assert_eq!(parsed("--help"), Ok(Command::Help));
        assert_eq!(parsed("--version"), Ok(Command::Version));
    }

    #[test]
    fn every_mistake_is_named() {
        for (line, part) in [
            ("", "no verb"),
            ("start", "verb `start`"),
            ("install", "DEST"),
            ("install a b", "DEST"),
            ("run --data /d", "-- SERVER"),
            ("run --", "no SERVER"),
            ("ready --port", "--port needs a value"),
            ("ready --port=", "--port needs a value"),
            ("live --port 0", "not `0`"),
            ("live --port 70000", "not `70000`"),
            ("live --port 6378", "must differ"),
            ("prestop --wait 3", "option `--wait`"),
            ("prestop x", "option `x`"),
            ("prestop --wait-seconds -1", "whole seconds, not `-1`"),
            ("started x", "option `x`"),
        ] {
            let said = parsed(line).expect_err(line);
            assert!(
                said.contains(part) && said.ends_with("see --help"),
                "{line}: {said}"
            );
        }
    }
}
