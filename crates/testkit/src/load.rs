//! Writers that remember every acknowledged write, and the proof that none is missing.
//!
//! One writer per *lane*: a lane is one hash slot, and its keys are numbered from 0. A writer
//! repeats a number until it is acknowledged, so the acknowledged keys of a lane are exactly
//! the numbers below its count, each with its own value and the moment of its acknowledgement.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use redis::IntoConnectionInfo as _;
use redis::aio::MultiplexedConnection;
use tokio::task::JoinHandle;

use crate::Error;
use crate::slots::{COUNT, tag_for};
use crate::wait::until;

/// How many keys one MGET of the check reads.
const CHECK_BATCH: u64 = 500;
/// After an error: time for the world to change before the next try.
const ERROR_PAUSE: Duration = Duration::from_millis(1);

/// What to write, and as whom.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// The hash slots written to, one writer each.
    pub slots: Vec<u16>,
    /// The pause after each acknowledged write.
    pub pause: Duration,
    /// How long a connection or a reply may take before the writer goes elsewhere.
    pub timeout: Duration,
    /// User and password; the default user without a password where absent.
    pub login: Option<(String, String)>,
    /// Bytes added to each value.
    pub padding_bytes: usize,
    /// Numbers start here, so that a second load does not write the first one's keys.
    pub prefix: String,
    /// So many keys for each lane, written over and over; each number has a key of its own where absent.
    pub keys_per_lane: Option<u64>,
    /// A write counts as acknowledged once so many replicas have it too (`WAIT`); 0 is not to ask.
    pub replicas: u32,
}

impl Default for LoadOptions {
    /// Nine lanes spread over all slots, about a thousand writes a second each.
    fn default() -> Self {
        Self {
            slots: (0..9).map(|lane| lane * (COUNT / 9) + 7).collect(),
            pause: Duration::from_millis(1),
            timeout: Duration::from_millis(200),
            login: None,
            padding_bytes: 0,
            prefix: "load".to_owned(),
            keys_per_lane: None,
            replicas: 0,
        }
    }
}

/// Writers at work. Stop them with [`Load::stop`].
#[derive(Debug)]
pub struct Load {
    options: LoadOptions,
    addresses: Addresses,
    stop: Arc<AtomicBool>,
    acked: Arc<AtomicU64>,
    lanes: Vec<JoinHandle<Lane>>,
    begun: Instant,
}

/// What one writer did.
#[derive(Clone, Debug)]
pub struct Lane {
    /// Its hash slot.
    pub slot: u16,
    /// When each number was acknowledged: the index is the number.
    pub acked: Vec<Instant>,
    /// Attempts that failed, by the first word of the reason.
    pub errors: BTreeMap<String, u64>,
}

/// A time without acknowledged writes.
#[derive(Clone, Copy, Debug)]
pub struct Gap {
    /// The lane's hash slot.
    pub slot: u16,
    /// From the last acknowledgement before it.
    pub begun: Instant,
    /// To the first acknowledgement after it.
    pub length: Duration,
}

/// What all writers did.
#[derive(Clone, Debug)]
pub struct Report {
    /// One per slot written to.
    pub lanes: Vec<Lane>,
    /// When the load began.
    pub begun: Instant,
    /// When it was stopped.
    pub ended: Instant,
    options: LoadOptions,
}

/// A write that was acknowledged and is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The key.
    pub key: String,
    /// What stands there instead, if anything.
    pub found: Option<String>,
    slot: u16,
    number: u64,
}

impl Load {
    /// Starts writing through any of these `HOST:PORT` addresses.
    #[must_use]
    pub fn start(addresses: &[String], options: LoadOptions) -> Self {
        let addresses = Addresses::new(addresses);
        let stop = Arc::new(AtomicBool::new(false));
        let acked = Arc::new(AtomicU64::new(0));
        let lanes = options.slots.iter().map(|slot| {
            let router = Router::new(addresses.clone(), &options);
            tokio::spawn(write_lane(
                *slot,
                options.clone(),
                router,
                stop.clone(),
                acked.clone(),
            ))
        });
        let lanes = lanes.collect();
        Self {
            options,
            addresses,
            stop,
            acked,
            lanes,
            begun: Instant::now(),
        }
    }

    /// Tells the writers where the servers are from now on, as a name service would.
    pub fn now_at(&self, addresses: &[String]) {
        self.addresses.set(addresses);
    }

    /// Acknowledged writes so far.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    /// Waits for that many more acknowledged writes.
    pub async fn until_more(&self, more: u64, limit: Duration) -> Result<(), Error> {
        let goal = self.acked() + more;
        until(
            &format!("{more} more acknowledged writes"),
            limit,
            || async move {
                let acked = self.acked();
                if acked >= goal {
                    Ok(())
                } else {
                    Err(format!("{acked} of {goal}"))
                }
            },
        )
        .await
        .map(|_| ())
    }

    /// Stops all writers and returns what they did.
    ///
    /// # Panics
    ///
    /// When a writer panicked.
    pub async fn stop(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        let mut lanes = Vec::new();
        for lane in self.lanes {
            lanes.push(lane.await.expect("a writer does not panic"));
        }
        Report {
            lanes,
            begun: self.begun,
            ended: Instant::now(),
            options: self.options,
        }
    }
}

impl Report {
    /// Acknowledged writes of all lanes.
    #[must_use]
    pub fn acked(&self) -> usize {
        self.lanes.iter().map(|lane| lane.acked.len()).sum()
    }

    /// The longest time without an acknowledged write in any lane whose slot is in `first..=last`.
    /// The beginning and the end of the load count as acknowledgements.
    #[must_use]
    pub fn longest_gap(&self, first: u16, last: u16) -> Option<Gap> {
        let lanes = self
            .lanes
            .iter()
            .filter(|lane| (first..=last).contains(&lane.slot));
        lanes
            .flat_map(|lane| {
                let froms = std::iter::once(&self.begun).chain(&lane.acked);
                let tos = lane.acked.iter().chain(std::iter::once(&self.ended));
                froms.zip(tos).map(|(from, to)| Gap {
                    slot: lane.slot,
                    begun: *from,
                    length: to.saturating_duration_since(*from),
                })
            })
            .max_by_key(|gap| gap.length)
    }

    /// Reads every acknowledged key back through any of these addresses; lists those that are
    /// missing or hold another value.
    pub async fn lost(&self, addresses: &[String]) -> Result<Vec<Lost>, Error> {
        let mut lost = Vec::new();
        for lane in &self.lanes {
            let mut router = Router::new(Addresses::new(addresses), &self.options);
            let names = Names::new(lane.slot, &self.options);
            let count = lane.acked.len() as u64;
            let keys = names.per_lane.map_or(count, |keys| keys.min(count));
            for first in (0..keys).step_by(usize::try_from(CHECK_BATCH).unwrap_or(1)) {
                let keys = first..keys.min(first + CHECK_BATCH);
                let mut command = redis::cmd("MGET");
                for key in keys.clone() {
                    command.arg(names.key(key));
                }
                let values = router.insist(&command).await?;
                for (key, found) in keys.zip(values) {
                    if !names.may_hold(key, count, found.as_deref()) {
                        lost.push(Lost {
                            key: names.key(key),
                            found,
                            slot: lane.slot,
                            number: key,
                        });
                    }
                }
            }
        }
        Ok(lost)
    }

    /// How long after the load began the last write to a lost key was acknowledged.
    #[must_use]
    pub fn acked_after(&self, lost: &Lost) -> Option<Duration> {
        let lane = self.lanes.iter().find(|lane| lane.slot == lost.slot)?;
        let names = Names::new(lost.slot, &self.options);
        let number = names.last(lost.number, lane.acked.len() as u64);
        let at = lane.acked.get(usize::try_from(number).ok()?)?;
        Some(at.saturating_duration_since(self.begun))
    }

    /// Whether this value, found elsewhere, is one that the key may have.
    #[must_use]
    pub fn may_stand(&self, lost: &Lost, found: Option<&str>) -> bool {
        let lanes = self.lanes.iter().filter(|lane| lane.slot == lost.slot);
        lanes
            .map(|lane| lane.acked.len() as u64)
            .any(|count| Names::new(lost.slot, &self.options).may_hold(lost.number, count, found))
    }
}

/// The keys and values of a lane.
struct Names {
    prefix: String,
    tag: String,
    padding: String,
    per_lane: Option<u64>,
}

impl Names {
    fn new(slot: u16, options: &LoadOptions) -> Self {
        Self {
            prefix: options.prefix.clone(),
            tag: tag_for(slot),
            padding: "x".repeat(options.padding_bytes),
            per_lane: options.keys_per_lane.map(|keys| keys.max(1)),
        }
    }

    /// The key that a number is written to.
    fn key(&self, number: u64) -> String {
        let number = self.per_lane.map_or(number, |keys| number % keys);
        format!("{{{}}}:{}:{number}", self.tag, self.prefix)
    }

    /// The last number that was written to a key, of so many.
    fn last(&self, key: u64, acked: u64) -> u64 {
        let keys = self.per_lane.unwrap_or(acked.max(1));
        key + (acked - 1 - key) / keys * keys
    }

    /// Whether this may stand at a key once so many numbers were acknowledged: the last of them that is the key's,
    /// or the next number, which may have been written without an answer.
    fn may_hold(&self, key: u64, acked: u64, found: Option<&str>) -> bool {
        let last = self.last(key, acked);
        let next = self.per_lane.is_some_and(|keys| acked % keys == key);
        let is = |number| found == Some(self.value(number).as_str());
        is(last) || next && is(acked)
    }

    fn value(&self, number: u64) -> String {
        format!("{number}{}", self.padding)
    }
}

async fn write_lane(
    slot: u16,
    options: LoadOptions,
    mut router: Router,
    stop: Arc<AtomicBool>,
    total: Arc<AtomicU64>,
) -> Lane {
    let names = Names::new(slot, &options);
    let mut lane = Lane {
        slot,
        acked: Vec::new(),
        errors: BTreeMap::new(),
    };
    while !stop.load(Ordering::Relaxed) {
        let number = lane.acked.len() as u64;
        let mut command = redis::cmd("SET");
        command.arg(names.key(number)).arg(names.value(number));
        match router.write(&command, options.replicas).await {
            Ok(()) => {
                lane.acked.push(Instant::now());
                total.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(options.pause).await;
            }
            Err(reason) => {
                *lane.errors.entry(reason).or_insert(0) += 1;
                tokio::time::sleep(ERROR_PAUSE).await;
            }
        }
    }
    lane
}

/// Where the servers are, for all writers; may change while they write.
#[derive(Clone, Debug)]
struct Addresses(Arc<RwLock<Vec<String>>>);

impl Addresses {
    fn new(addresses: &[String]) -> Self {
        Self(Arc::new(RwLock::new(addresses.to_vec())))
    }

    fn set(&self, addresses: &[String]) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = addresses.to_vec();
    }

    /// The address at `at`, counted round and round.
    fn get(&self, at: usize) -> Option<String> {
        let addresses = self.0.read().unwrap_or_else(PoisonError::into_inner);
        addresses.get(at % addresses.len().max(1)).cloned()
    }
}

/// Sends commands of one slot to whoever serves it.
struct Router {
    addresses: Addresses,
    at: String,
    /// Who answered last.
    answered: String,
    next: usize,
    open: BTreeMap<String, MultiplexedConnection>,
    timeout: Duration,
    login: Option<(String, String)>,
}

impl Router {
    fn new(addresses: Addresses, options: &LoadOptions) -> Self {
        let at = addresses.get(0).unwrap_or_else(|| "127.0.0.1:1".to_owned());
        Self {
            addresses,
            answered: at.clone(),
            at,
            next: 1,
            open: BTreeMap::new(),
            timeout: options.timeout,
            login: options.login.clone(),
        }
    }

    /// One attempt to write that so many replicas are to have too.
    async fn write(&mut self, command: &redis::Cmd, replicas: u32) -> Result<(), String> {
        self.send::<String>(command).await?;
        if replicas == 0 {
            return Ok(());
        }
        // It is about what was written on the connection that it is sent on.
        let Some(mut connection) = self.open.get(&self.answered).cloned() else {
            return Err("WAIT".to_owned());
        };
        let mut wait = redis::cmd("WAIT");
        wait.arg(replicas)
            .arg((self.timeout / 2).as_millis().max(1).to_string());
        match wait.query_async::<u32>(&mut connection).await {
            Ok(have) if have >= replicas => Ok(()),
            Ok(_) => Err("WAIT".to_owned()),
            Err(error) => {
                self.open.remove(&self.answered);
                Err(error.code().map_or("WAIT".to_owned(), str::to_owned))
            }
        }
    }

    /// One attempt. An error changes the address of the next attempt.
    async fn send<T: redis::FromRedisValue>(&mut self, command: &redis::Cmd) -> Result<T, String> {
        let at = self.at.clone();
        let sent = match self.connect(&at).await {
            Ok(mut connection) => command.query_async::<T>(&mut connection).await,
            Err(error) => Err(error),
        };
        let error = match sent {
            Ok(value) => {
                self.answered = at;
                return Ok(value);
            }
            Err(error) => error,
        };
        if error.kind() == redis::ErrorKind::Server(redis::ServerErrorKind::Ask)
            && let Some((address, _slot)) = error.redirect_node()
        {
            // For this once: the slot still belongs to the one who said so.
            let address = address.to_owned();
            let word = |e: redis::RedisError| e.code().map_or("ASK".to_owned(), str::to_owned);
            let mut connection = self.connect(&address).await.map_err(word)?;
            let mut asking = redis::pipe();
            asking.cmd("ASKING").ignore();
            asking.add_command(command.clone());
            let sent = asking.query_async::<(T,)>(&mut connection).await;
            if sent.is_err() {
                self.open.remove(&address);
            }
            self.answered = address;
            return sent.map(|(value,)| value).map_err(word);
        }
        if let Some((address, _slot)) = error.redirect_node() {
            address.clone_into(&mut self.at);
            return Err("MOVED".to_owned());
        }
        self.open.remove(&self.at);
        if let Some(other) = self.addresses.get(self.next) {
            self.at = other;
        }
        self.next += 1;
        Err(error
            .code()
            .map_or_else(|| format!("{:?}", error.kind()), str::to_owned))
    }

    /// Attempts until it is answered.
    async fn insist(&mut self, command: &redis::Cmd) -> Result<Vec<Option<String>>, Error> {
        let start = Instant::now();
        let limit = Duration::from_secs(20);
        loop {
            match self.send(command).await {
                Ok(values) => return Ok(values),
                Err(last) if start.elapsed() > limit => {
                    let what = "the keys can be read back".to_owned();
                    return Err(Error::TooLate {
                        what,
                        waited: start.elapsed(),
                        last,
                    });
                }
                Err(_) => tokio::time::sleep(ERROR_PAUSE).await,
            }
        }
    }

    async fn connect(&mut self, address: &str) -> redis::RedisResult<MultiplexedConnection> {
        if let Some(open) = self.open.get(address) {
            return Ok(open.clone());
        }
        let mut info = format!("redis://{address}/").into_connection_info()?;
        if let Some((user, password)) = &self.login {
            let login = info
                .redis_settings()
                .clone()
                .set_username(user)
                .set_password(password);
            info = info.set_redis_settings(login);
        }
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout));
        let client = redis::Client::open(info)?;
        let opened = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        self.open.insert(address.to_owned(), opened.clone());
        Ok(opened)
    }
}
