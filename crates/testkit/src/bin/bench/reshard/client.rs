//! A client that asks at a fixed rate, whether or not it is answered.
//!
//! Each request has a time at which it is due, and its latency counts from then until it was
//! answered, over all redirections: a server that stalls is charged for every request that was
//! due meanwhile. Half of the requests write.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind};
use shardwright_testkit::slots::COUNT;
use shardwright_testkit::{Cluster, until};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::data::{Data, zset_name};
use crate::figures::quantile;
use crate::local::Failure;

/// Far beyond the time that moving the greatest key takes.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// More redirections in a row than two owners can explain are an error.
const REDIRECTS_MAX: u32 = 16;
/// One in so many requests is about the great zset.
const ZSET_EVERY: u64 = 20;

/// A client at work.
pub(crate) struct Client {
    stop: Sender<()>,
    thread: JoinHandle<()>,
    answers: UnboundedReceiver<Answer>,
    answered: Arc<AtomicU64>,
}

/// One request that came to its end.
#[derive(Debug)]
struct Answer {
    due: Instant,
    took: Duration,
    redirects: u32,
    error: Option<String>,
}

/// What the client felt in a stretch of time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Felt {
    pub(crate) requests: usize,
    pub(crate) p50: Option<Duration>,
    pub(crate) p99: Option<Duration>,
    pub(crate) p999: Option<Duration>,
    pub(crate) max: Option<Duration>,
    /// Answers `MOVED`, `ASK` and `TRYAGAIN`.
    pub(crate) redirects: u64,
    /// Errors beyond those, by their first word.
    pub(crate) errors: BTreeMap<String, u64>,
}

/// All that a client was answered.
pub(crate) struct Answers(Vec<Answer>);

struct Shared {
    data: Data,
    nodes: Vec<(String, MultiplexedConnection)>,
    /// The index of the node that each slot was last seen at.
    owners: Vec<AtomicUsize>,
    /// How many requests have come to their end.
    answered: Arc<AtomicU64>,
}

impl Client {
    /// Starts `rate` requests a second.
    pub(crate) async fn start(
        cluster: &Cluster,
        shards: usize,
        data: Data,
        rate: u64,
    ) -> Result<Self, Failure> {
        let mut nodes = Vec::new();
        for server in &cluster.servers {
            let client = redis::Client::open(format!("redis://{}/", server.address()))?;
            let config =
                redis::AsyncConnectionConfig::new().set_response_timeout(Some(ANSWER_LIMIT));
            let connection = client
                .get_multiplexed_async_connection_with_config(&config)
                .await?;
            nodes.push((server.address(), connection));
        }
        let owner = |slot: u16| {
            let owns =
                |shard: &usize| (cluster.slots(*shard).0..=cluster.slots(*shard).1).contains(&slot);
            AtomicUsize::new((0..shards).find(owns).unwrap_or(0))
        };
        let answered = Arc::new(AtomicU64::new(0));
        let shared = Arc::new(Shared {
            answered: Arc::clone(&answered),
            data,
            nodes,
            owners: (0..COUNT).map(owner).collect(),
        });
        let (stop, stopped) = channel();
        let (told, answers) = unbounded_channel();
        let handle = Handle::current();
        // A thread of its own: the runtime's timers are no finer than a millisecond.
        let thread = std::thread::spawn(move || {
            let begun = Instant::now();
            for number in 0.. {
                let due = begun + Duration::from_nanos(number * 1_000_000_000 / rate);
                match stopped.recv_timeout(due.saturating_duration_since(Instant::now())) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                }
                handle.spawn(request(Arc::clone(&shared), number, due, told.clone()));
            }
        });
        Ok(Self {
            stop,
            thread,
            answers,
            answered,
        })
    }

    /// Waits until so many more requests have come to their end.
    pub(crate) async fn until_more(&self, count: u64) -> Result<(), Failure> {
        let wanted = self.answered.load(Ordering::Relaxed) + count;
        until("the client is answered", ANSWER_LIMIT, || async {
            let answered = self.answered.load(Ordering::Relaxed);
            if answered < wanted {
                return Err(format!("{answered} of {wanted}"));
            }
            Ok(())
        })
        .await?;
        Ok(())
    }

    /// Stops asking, and waits for the answers that are still due.
    pub(crate) async fn stop(mut self) -> Result<Answers, Failure> {
        drop(self.stop);
        let mut all = Vec::new();
        while let Some(answer) = self.answers.recv().await {
            all.push(answer);
        }
        self.thread.join().map_err(|_| "the client panicked")?;
        Ok(Answers(all))
    }
}

impl Answers {
    /// What was felt of the requests that were due from `from` on and before `until`.
    pub(crate) fn felt(&self, from: Instant, until: Instant) -> Felt {
        let due = self.0.iter().filter(|a| (from..until).contains(&a.due));
        let mut felt = Felt::default();
        let mut times = Vec::new();
        for answer in due {
            times.push(answer.took);
            felt.redirects += u64::from(answer.redirects);
            if let Some(error) = &answer.error {
                *felt.errors.entry(error.clone()).or_default() += 1;
            }
        }
        felt.requests = times.len();
        felt.p50 = quantile(&times, 500);
        felt.p99 = quantile(&times, 990);
        felt.p999 = quantile(&times, 999);
        felt.max = times.into_iter().max();
        felt
    }
}

async fn request(shared: Arc<Shared>, number: u64, due: Instant, told: UnboundedSender<Answer>) {
    let (slot, command) = shared.command(number);
    let owner = &shared.owners[usize::from(slot)];
    let mut at = owner.load(Ordering::Relaxed);
    let (mut redirects, mut asking) = (0, false);
    let error = loop {
        let Err(error) = send(shared.nodes[at].1.clone(), &command, asking).await else {
            break None;
        };
        asking = match error.kind() {
            ErrorKind::Server(ServerErrorKind::Moved) => false,
            ErrorKind::Server(ServerErrorKind::Ask) => true,
            ErrorKind::Server(ServerErrorKind::TryAgain) => asking,
            _ => break Some(word_of(&error)),
        };
        if let Some((address, _)) = error.redirect_node() {
            match shared.nodes.iter().position(|(known, _)| known == address) {
                Some(known) => at = known,
                None => break Some(format!("redirected to {address}")),
            }
            if !asking {
                owner.store(at, Ordering::Relaxed);
            }
        }
        redirects += 1;
        if redirects > REDIRECTS_MAX {
            break Some("redirected without end".to_owned());
        }
    };
    shared.answered.fetch_add(1, Ordering::Relaxed);
    let answer = Answer {
        due,
        took: due.elapsed(),
        redirects,
        error,
    };
    // Nobody listens any more where the bench has failed already.
    told.send(answer).ok();
}

async fn send(
    mut connection: MultiplexedConnection,
    command: &Cmd,
    asking: bool,
) -> Result<(), RedisError> {
    if asking {
        let mut both = redis::pipe();
        both.cmd("ASKING").ignore().add_command(command.clone());
        both.ignore().exec_async(&mut connection).await
    } else {
        command.exec_async(&mut connection).await
    }
}

fn word_of(error: &RedisError) -> String {
    match error.code() {
        Some(code) => code.to_owned(),
        None => error.category().to_owned(),
    }
}

impl Shared {
    fn command(&self, number: u64) -> (u16, Cmd) {
        if self.data.zset_mb > 0 && number.is_multiple_of(ZSET_EVERY) {
            let mut card = redis::cmd("ZCARD");
            card.arg(zset_name());
            return (0, card);
        }
        // Neighbours in time are strangers in the key space.
        let pick = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16;
        let pick = pick % self.data.keys;
        let key = Data::key(pick);
        let command = if number.is_multiple_of(2) {
            let mut get = redis::cmd("GET");
            get.arg(key);
            get
        } else {
            let mut set = redis::cmd("SET");
            set.arg(key).arg(self.data.value(number));
            set
        };
        (Data::slot(pick), command)
    }
}
