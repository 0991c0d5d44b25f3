//! One look at all servers: what each says, or why it can't be known.

use std::time::Duration;

use futures_util::future::join_all;
use shardwright_engine::{Client, Error};
use shardwright_topology::{Address, NodeView, Seen, ServerName, Why};

use tokio::time::timeout;

use crate::Links;

/// The time of a server that was silent the last time. A healthy one answers in a few milliseconds.
const SILENT_LIMIT: Duration = Duration::from_millis(250);

/// How closely a server is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Look {
    /// It is asked for everything.
    Whole,
    /// It is asked for what changes while all is at rest: a third of the bytes.
    Glance,
}

/// Asks every server at once. The answers stand in the order of the questions.
pub(crate) async fn hear(
    links: &Links,
    whom: &[(ServerName, Address)],
    look: Look,
) -> Vec<Seen<NodeView>> {
    let asked = whom
        .iter()
        .map(|(name, address)| hear_one(links, name, address, look));
    join_all(asked).await
}

/// Asks one server for everything.
pub(crate) async fn one(links: &Links, name: &ServerName, address: &Address) -> Seen<NodeView> {
    hear_one(links, name, address, Look::Whole).await
}

async fn hear_one(
    links: &Links,
    name: &ServerName,
    address: &Address,
    look: Look,
) -> Seen<NodeView> {
    let view = ask(links, name, address, look).await;
    let late = matches!(view, Err(Error::TimedOut { .. }));
    links.note_silence(name, late);
    if late {
        links.wake_once_it_answers(name).await;
    }
    match view {
        Ok(view) => view,
        Err(error) => {
            let why = why_silent(links, address, &error).await;
            tracing::debug!(server = %name, %error, "not heard");
            Seen::Unknown(why)
        }
    }
}

/// One that let its time run out the last time gets little of it: a frozen server must not slow the care for the
/// others. Once it thaws it answers within that.
async fn ask(
    links: &Links,
    name: &ServerName,
    address: &Address,
    look: Look,
) -> Result<Seen<NodeView>, Error> {
    let client = links.client(name, address).await?;
    if !links.was_silent(name) {
        return ask_it(links, name, &client, look).await;
    }
    let late = |_| {
        Err(Error::TimedOut {
            endpoint: client.endpoint().clone(),
            command: "an observation",
            limit: SILENT_LIMIT,
        })
    };
    timeout(SILENT_LIMIT, ask_it(links, name, &client, look))
        .await
        .unwrap_or_else(late)
}

async fn ask_it(
    links: &Links,
    name: &ServerName,
    client: &Client,
    look: Look,
) -> Result<Seen<NodeView>, Error> {
    let known = links.known(name, client).filter(|_| look == Look::Glance);
    if let Some((before, age)) = known
        && let Some(view) = client.glance(&before, age).await?
    {
        return Ok(Seen::Known(view));
    }
    match client.observe().await?.parse() {
        Ok(mut view) => {
            client.read_settings(&mut view).await?;
            links.note(name, client, &view.server);
            Ok(Seen::Known(view))
        }
        Err(error) => Ok(Seen::Unknown(Why::Strange(error.to_string()))),
    }
}

/// A connection that closed under the question says nothing yet: whether something listens there does. A way that was
/// dialled opens whether or not something listens, and says so when it closes.
async fn why_silent(links: &Links, address: &Address, error: &Error) -> Why {
    if links.access().dial.is_some() || !matches!(error, Error::Closed { .. }) {
        return error.why();
    }
    let limit = links.access().timeouts.connect;
    match shardwright_engine::probe(&address.into(), limit).await {
        Ok(_) => {
            Why::Unreachable("it closed the connection, but something listens there".to_owned())
        }
        Err(why) => Error::Unreachable {
            endpoint: address.into(),
            why,
        }
        .why(),
    }
}
