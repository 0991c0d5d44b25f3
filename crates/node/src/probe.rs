//! The probes of the kubelet. None ever depends on the state of the cluster: a cluster that is down must be able to
//! come up again, and a primary with data must not count as one that may go because others are away.

use std::time::Duration;

use crate::args::Options;
use crate::client::{Client, NoAnswer};
use crate::login::{NoLogin, log_in};
use crate::nodes_conf::{self, myself};
use crate::resp::{self, Link, Role, Value};
use crate::{Error, Log, data};

/// A server that answers at all answers within this.
const LIMIT: Duration = Duration::from_secs(1);
/// How the answer of a server begins that has not loaded its data yet.
const LOADING: &str = "LOADING";

/// What the server says about its use.
#[derive(Debug)]
enum Seen {
    /// It loads its data.
    Loading,
    /// It has its data, and this is its role.
    Role(Role),
    /// It answers, and its role can't be had: a script keeps it busy, or it does not let our user in.
    Answers,
}

/// Started: the server has loaded its data, or the gate holds and there is nothing yet that could be stuck.
///
/// # Errors
/// [`Error::Probe`] with what was seen.
pub fn started(options: &Options) -> Result<(), Error> {
    match look(options) {
        Ok(Seen::Role(_) | Seen::Answers) => Ok(()),
        Ok(Seen::Loading) => Err(failed("not started: the server loads its data")),
        Err(NoAnswer::Refused) if is_held(options) => Ok(()),
        Err(why) => Err(no_answer("not started", options, &why)),
    }
}

/// Ready: the server is of use to clients, and counts as a copy where pods are counted. A primary is ready with its
/// data loaded, and so is a node that no cluster knows yet. A replica is ready once its link was up since it started;
/// that is noted, so that it stays ready while the link breaks for a while, though not while it takes a whole copy anew.
/// Not while the gate holds.
///
/// A server that answers and does not say what it is is ready: a password that was changed by mistake must not take
/// all servers from their clients.
///
/// # Errors
/// [`Error::Probe`] with what was seen.
pub fn ready(options: &Options, log: Log) -> Result<(), Error> {
    let role = match look(options) {
        Ok(Seen::Role(role)) => role,
        Ok(Seen::Answers) => return Ok(()),
        Ok(Seen::Loading) => return Err(failed("not ready: the server loads its data")),
        Err(NoAnswer::Refused) if is_held(options) => {
            let why = "not ready: the start gate holds this node until it is released";
            return Err(failed(why));
        }
        Err(why) => return Err(no_answer("not ready", options, &why)),
    };
    let noted = match role {
        Role::Primary { .. } => data::clear_copy_mark(&options.data),
        Role::Replica { link: Link::Up } => data::mark_copy(&options.data),
        Role::Replica {
            link: Link::Copying | Link::Down,
        } => Ok(()),
    };
    if let Err(error) = noted {
        log(&error.with_cause());
    }
    let listed = match role {
        Role::Primary { .. } => data::table(&options.data).and_then(|text| myself(&text)),
        Role::Replica { .. } => None,
    };
    let listed = listed.map(|own| own.role);
    match why_not_ready(role, listed, data::is_copy_marked(&options.data)) {
        Some(why) => Err(failed(&format!("not ready: {why}"))),
        None => Ok(()),
    }
}

/// Why a server of this role is of no use yet. `listed`: its role in its own table; `had_copy`: its link was up since it
/// started.
fn why_not_ready(
    role: Role,
    listed: Option<nodes_conf::Role>,
    had_copy: bool,
) -> Option<&'static str> {
    match role {
        // A replica that has just loaded its table follows nobody for a moment, and says that it is a primary.
        Role::Primary { .. } if listed == Some(nodes_conf::Role::Replica) => {
            Some("it is a replica that does not follow its primary yet")
        }
        Role::Primary { .. } | Role::Replica { link: Link::Up } => None,
        Role::Replica {
            link: Link::Copying,
        } => Some("it is taking its copy from its primary"),
        Role::Replica { link: Link::Down } if had_copy => None,
        Role::Replica { link: Link::Down } => {
            Some("it has had no copy since it started, and its link to its primary is down")
        }
    }
}

/// Live: nothing says that the server is stuck. A closed port says nothing: the gate holds, or the server is about to
/// start, and if it has ended its container has too. Only a server that takes connections and stays silent is stuck.
///
/// # Errors
/// [`Error::Probe`] where it is stuck.
pub fn live(options: &Options, log: Log) -> Result<(), Error> {
    match ping(options.port) {
        Ok(_) | Err(NoAnswer::Refused | NoAnswer::Closed) => Ok(()),
        Err(why @ (NoAnswer::Foreign | NoAnswer::Failed(_))) => {
            log(&format!(
                "port {}: {why}; nothing says that the server is stuck",
                options.port
            ));
            Ok(())
        }
        Err(NoAnswer::Silent) => Err(Error::Probe(format!(
            "not live: the server on port {} took no word for {} ms",
            options.port,
            LIMIT.as_millis()
        ))),
    }
}

/// Asks whether the server has its data, and for its role. It says neither before the login: whoever is not let in is
/// told just that, also while it loads.
fn look(options: &Options) -> Result<Seen, NoAnswer> {
    let mut client = match log_in(options, LIMIT) {
        Ok(client) => client,
        Err(NoLogin::Refused(_)) => return ping(options.port).map(|said| seen(&said)),
        Err(NoLogin::Server(why)) => return Err(why),
    };
    match seen(&client.ask(&["PING"], LIMIT)?) {
        Seen::Loading => Ok(Seen::Loading),
        Seen::Role(_) | Seen::Answers => {
            let said = client.ask(&["ROLE"], LIMIT)?;
            Ok(seen(&said))
        }
    }
}

fn seen(said: &Value) -> Seen {
    match said {
        Value::Error(why) if why.starts_with(LOADING) => Seen::Loading,
        said => resp::role(said).map_or(Seen::Answers, Seen::Role),
    }
}

fn ping(port: u16) -> Result<Value, NoAnswer> {
    Client::connect(port, LIMIT)?.ask(&["PING"], LIMIT)
}

fn is_held(options: &Options) -> bool {
    Client::connect(options.gate_port, LIMIT).is_ok()
}

fn failed(why: &str) -> Error {
    Error::Probe(why.to_owned())
}

fn no_answer(what: &str, options: &Options, why: &NoAnswer) -> Error {
    let port = options.port;
    failed(&format!(
        "{what}: no answer from the server on port {port}: {why}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_ready_with_its_copy_and_stays_so_without_its_link() {
        let why = |link, had_copy| {
            let listed = Some(nodes_conf::Role::Replica);
            why_not_ready(Role::Replica { link }, listed, had_copy)
        };
        assert_eq!(why(Link::Up, true), None);
        assert_eq!(why(Link::Up, false), None, "the mark could not be written");
        assert_eq!(why(Link::Down, true), None);
        assert!(why(Link::Down, false).is_some_and(|why| why.contains("no copy since it started")));
        for had_copy in [false, true] {
            let why = why(Link::Copying, had_copy);
            assert!(why.is_some_and(|why| why.contains("taking its copy")));
        }
    }

    #[test]
    fn a_primary_is_ready_unless_its_table_calls_it_a_replica() {
        let primary = Role::Primary { replicas: 0 };
        for listed in [None, Some(nodes_conf::Role::Primary)] {
            assert_eq!(why_not_ready(primary, listed, false), None);
        }
        let why = why_not_ready(primary, Some(nodes_conf::Role::Replica), true);
        assert!(why.is_some_and(|why| why.contains("does not follow")));
    }

    #[test]
    fn an_answer_that_tells_no_role_is_an_answer() {
        let error = |text: &str| seen(&Value::Error(text.to_owned()));
        assert!(matches!(error("LOADING wait"), Seen::Loading));
        for text in ["BUSY script", "NOAUTH log in", "NOPERM no"] {
            assert!(matches!(error(text), Seen::Answers), "{text}");
        }
        assert!(matches!(seen(&Value::Text("PONG".into())), Seen::Answers));
    }
}
