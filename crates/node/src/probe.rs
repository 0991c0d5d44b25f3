//! The probes of the kubelet. Neither ever depends on the state of the cluster: a cluster that is down must be able
//! to come up again.

use std::time::Duration;

use crate::args::Options;
use crate::client::{Client, NoAnswer};
use crate::resp::Value;
use crate::{Error, Log};

/// A server that answers at all answers within this.
const LIMIT: Duration = Duration::from_secs(1);

/// Ready: the server answers `PING`, with whatever: `PONG`, `NOAUTH`, `LOADING`, `BUSY`. Not while the gate holds.
///
/// # Errors
/// [`Error::Probe`] with what was seen.
pub fn ready(options: &Options) -> Result<(), Error> {
    match ping(options.port) {
        Ok(_) => Ok(()),
        Err(NoAnswer::Refused) if Client::connect(options.gate_port, LIMIT).is_ok() => Err(
            Error::Probe("not ready: the start gate holds this node until it is released".into()),
        ),
        Err(why) => Err(Error::Probe(format!(
            "not ready: no answer from the server on port {}: {why}",
            options.port
        ))),
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

fn ping(port: u16) -> Result<Value, NoAnswer> {
    Client::connect(port, LIMIT)?.ask(&["PING"], LIMIT)
}
