//! One observer for all that is measured: when does a whole cluster agree?
//!
//! It asks every node itself (`CLUSTER NODES`, `CLUSTER INFO`, `INFO replication`) and trusts no
//! answer of the program that is measured.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use redis::IntoConnectionInfo as _;
use redis::aio::MultiplexedConnection;
use tokio::task::JoinSet;

use crate::local::Failure;

/// A node that does not answer within this is not there yet.
const ANSWER_LIMIT: Duration = Duration::from_millis(500);
/// Between two looks: far below anything that is measured.
const PAUSE: Duration = Duration::from_millis(4);

pub(crate) type Login = Option<(String, String)>;

/// Connections to all nodes, and what agreement means.
#[derive(Debug)]
pub(crate) struct Observer {
    addresses: Vec<String>,
    login: Login,
    open: BTreeMap<String, MultiplexedConnection>,
}

/// One node of an agreed view.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) address: String,
    pub(crate) primary: Option<String>,
    pub(crate) slots: Vec<String>,
}

/// Why the nodes do not agree yet.
#[derive(Clone, Debug)]
pub(crate) struct NotYet {
    /// The views agree and serve; only a replica has no copy yet.
    pub(crate) only_links: bool,
    why: String,
}

impl NotYet {
    fn views(why: String) -> Self {
        Self {
            only_links: false,
            why,
        }
    }
}

impl std::fmt::Display for NotYet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.why)
    }
}

/// What one node answers.
struct Answer {
    nodes: String,
    cluster: String,
    replication: String,
}

impl Observer {
    pub(crate) fn new(addresses: Vec<String>, login: Login) -> Self {
        Self {
            addresses,
            login,
            open: BTreeMap::new(),
        }
    }

    /// The cluster as every node sees it, or why they do not agree. Agreed is: the same ids,
    /// roles and slots in every view, every row connected and without fail, handshake or noaddr,
    /// all slots assigned, `cluster_state:ok` everywhere, the link of every replica up.
    pub(crate) async fn agreed(&mut self) -> Result<Vec<Row>, NotYet> {
        let mut views = Vec::new();
        let mut link_down = None;
        for (address, answer) in self.ask_all().await {
            let why = |what: String| NotYet::views(format!("{address}: {what}"));
            let answer = answer.map_err(NotYet::views)?;
            state_ok(&answer.cluster).map_err(why)?;
            views.push(rows(&answer.nodes).map_err(why)?);
            let link = field(&answer.replication, "master_link_status");
            if let Some(down) = link.filter(|link| *link != "up") {
                link_down = Some(format!("{address}: its link is {down}"));
            }
        }
        let first = views.first().cloned().unwrap_or_default();
        if first.len() != self.addresses.len() {
            return Err(NotYet::views(format!("{} nodes are known", first.len())));
        }
        if views.iter().any(|view| *view != first) {
            return Err(NotYet::views("the views differ".to_owned()));
        }
        match link_down {
            None => Ok(first),
            Some(why) => Err(NotYet {
                only_links: true,
                why,
            }),
        }
    }

    /// Whether every node says `cluster_state:ok`, whatever else is open.
    pub(crate) async fn ok_everywhere(&mut self) -> Result<(), String> {
        for (address, answer) in self.ask_all().await {
            if field(&answer?.cluster, "cluster_state") != Some("ok") {
                return Err(format!("{address}: not ok"));
            }
        }
        Ok(())
    }

    async fn ask_all(&mut self) -> Vec<(String, Result<Answer, String>)> {
        let mut asked = JoinSet::new();
        for address in &self.addresses {
            let (address, login) = (address.clone(), self.login.clone());
            let held = self.open.remove(&address);
            asked.spawn(async move {
                let answer = ask(&address, &login, held).await;
                (address, answer)
            });
        }
        let mut answers = Vec::new();
        for (address, answer) in asked.join_all().await {
            let answer = answer.map(|(connection, answer)| {
                self.open.insert(address.clone(), connection);
                answer
            });
            answers.push((address, answer));
        }
        answers
    }

    /// Looks until the nodes agree.
    pub(crate) async fn until_agreed(&mut self, limit: Duration) -> Result<Vec<Row>, Failure> {
        let begun = Instant::now();
        let mut ticks = ticks();
        loop {
            ticks.tick().await;
            match self.agreed().await {
                Ok(rows) => return Ok(rows),
                Err(why) if begun.elapsed() > limit => {
                    return Err(format!("no agreement after {limit:?}: {why}").into());
                }
                Err(_) => {}
            }
        }
    }
}

/// The pace of an observer.
pub(crate) fn ticks() -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(PAUSE);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks
}

async fn ask(
    address: &str,
    login: &Login,
    held: Option<MultiplexedConnection>,
) -> Result<(MultiplexedConnection, Answer), String> {
    let failed = |e: redis::RedisError| format!("{address}: {e}");
    let mut connection = match held {
        Some(connection) => connection,
        None => connect(address, login).await.map_err(failed)?,
    };
    let mut pipe = redis::pipe();
    pipe.cmd("CLUSTER").arg("NODES");
    pipe.cmd("CLUSTER").arg("INFO");
    pipe.cmd("INFO").arg("replication");
    let texts: (String, String, String) =
        pipe.query_async(&mut connection).await.map_err(failed)?;
    let answer = Answer {
        nodes: texts.0,
        cluster: texts.1,
        replication: texts.2,
    };
    Ok((connection, answer))
}

/// A connection of its own, logged in.
pub(crate) async fn connect(
    address: &str,
    login: &Login,
) -> redis::RedisResult<MultiplexedConnection> {
    let mut info = format!("redis://{address}/").into_connection_info()?;
    if let Some((user, password)) = login {
        let settings = info.redis_settings().clone();
        info = info.set_redis_settings(settings.set_username(user).set_password(password));
    }
    let config = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(ANSWER_LIMIT))
        .set_response_timeout(Some(ANSWER_LIMIT));
    redis::Client::open(info)?
        .get_multiplexed_async_connection_with_config(&config)
        .await
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| {
            line.trim_end()
                .split_once(':')
                .filter(|(key, _)| *key == name)
        })
        .map(|(_, value)| value)
}

fn state_ok(cluster: &str) -> Result<(), String> {
    for (name, wanted) in [("cluster_state", "ok"), ("cluster_slots_assigned", "16384")] {
        let found = field(cluster, name);
        if found != Some(wanted) {
            return Err(format!("{name} is {found:?}"));
        }
    }
    Ok(())
}

/// The rows of one view, in the order of the ids.
fn rows(view: &str) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for line in view.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [id, address, flags, primary, _, _, _, link, slots @ ..] = words.as_slice() else {
            return Err(format!("a short row: {line}"));
        };
        let bad = ["fail", "handshake", "noaddr"];
        if *link != "connected" || bad.iter().any(|flag| flags.contains(flag)) {
            return Err(format!("row {line}"));
        }
        let replica = flags.contains("slave");
        rows.push(Row {
            id: (*id).to_owned(),
            address: address.split('@').next().unwrap_or(address).to_owned(),
            primary: replica.then(|| (*primary).to_owned()),
            slots: slots.iter().map(|slots| (*slots).to_owned()).collect(),
        });
    }
    rows.sort();
    Ok(rows)
}

/// The address of the primary that owns a slot.
pub(crate) fn owner_of(rows: &[Row], slot: u16) -> Result<String, Failure> {
    let owns = |row: &&Row| {
        row.slots.iter().any(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            match (first.parse::<u16>(), last.parse::<u16>()) {
                (Ok(first), Ok(last)) => (first..=last).contains(&slot),
                _ => false,
            }
        })
    };
    let owner = rows.iter().find(owns).map(|row| row.address.clone());
    owner.ok_or_else(|| format!("nobody owns slot {slot}").into())
}
