//! One held connection to every server: quick to ask, and the first to tell of a death.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use shardwright_engine::{Access, Client, Endpoint, Error};
use shardwright_planner::Budget;
use shardwright_topology::{Address, ServerInfo, ServerName};
use tokio::sync::{Mutex, Notify};

use crate::counts::Counted;
use crate::functions::ReadLibraries;
use crate::moving::Moves;

/// How long what only `INFO` tells is taken to be as it was, while all is at rest: memory, load, functions. What is
/// decided is decided by a whole look.
const KNOWN_FOR: Duration = Duration::from_secs(30);

/// What a server said of itself, by which connection and when.
#[derive(Debug)]
struct Known {
    client: Client,
    info: ServerInfo,
    at: Instant,
}

/// Held connections, by server. A closed one wakes the keeper at once.
#[derive(Debug)]
pub struct Links {
    access: Access,
    pen: Option<String>,
    held: Mutex<BTreeMap<ServerName, Client>>,
    silent: std::sync::Mutex<BTreeSet<ServerName>>,
    /// The unreachable servers whose next answer is waited for.
    awaited: Arc<std::sync::Mutex<BTreeSet<ServerName>>>,
    known: std::sync::Mutex<BTreeMap<ServerName, Known>>,
    /// Connections that work on another database than the first, by its number.
    databases: Mutex<BTreeMap<(ServerName, u32), Client>>,
    counted: std::sync::Mutex<BTreeMap<ServerName, Counted>>,
    libraries: std::sync::Mutex<BTreeMap<ServerName, ReadLibraries>>,
    wake: Arc<Notify>,
    moves: Arc<Moves>,
}

impl Links {
    /// Connections made with this access. With a pen, every connection carries its name (`CLIENT SETNAME`).
    pub fn new(access: Access, pen: Option<String>) -> Self {
        Self {
            access,
            pen,
            held: Mutex::new(BTreeMap::new()),
            silent: std::sync::Mutex::default(),
            awaited: Arc::default(),
            known: std::sync::Mutex::default(),
            databases: Mutex::default(),
            counted: std::sync::Mutex::default(),
            libraries: std::sync::Mutex::default(),
            wake: Arc::new(Notify::new()),
            moves: Arc::default(),
        }
    }

    /// With what access they are made.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// What all moves of slots over them share.
    pub(crate) fn moves(&self) -> &Arc<Moves> {
        &self.moves
    }

    /// What moving slots may cost the clients from now on.
    pub fn set_budget(&self, budget: Budget) {
        self.moves.set_budget(budget);
    }

    /// What moving slots may cost the clients.
    pub fn budget(&self) -> Budget {
        self.moves.budget()
    }

    /// The name every connection carries, if they carry one.
    pub fn pen(&self) -> Option<&str> {
        self.pen.as_deref()
    }

    /// The connection to a server at this address: the held one if it is open, else a new one.
    pub async fn client(&self, server: &ServerName, address: &Address) -> Result<Client, Error> {
        let endpoint = Endpoint::from(address);
        let held = self.held.lock().await.get(server).cloned();
        if let Some(client) = held.filter(|c| c.is_closed().is_none() && *c.endpoint() == endpoint)
        {
            return Ok(client);
        }
        let client = Client::connect(&endpoint, &self.access).await?;
        if let Some(pen) = &self.pen {
            client.set_name(pen).await?;
        }
        let (watched, wake) = (client.clone(), Arc::clone(&self.wake));
        tokio::spawn(async move {
            watched.closed().await;
            wake.notify_one();
        });
        self.held
            .lock()
            .await
            .insert(server.clone(), client.clone());
        Ok(client)
    }

    /// The held connection to a server at this address that works on this database.
    pub(crate) async fn client_of_database(
        &self,
        server: &ServerName,
        address: &Address,
        database: u32,
    ) -> Result<Client, Error> {
        if database == 0 {
            return self.client(server, address).await;
        }
        let endpoint = Endpoint::from(address);
        let key = (server.clone(), database);
        let held = self.databases.lock().await.get(&key).cloned();
        if let Some(client) = held.filter(|c| c.is_closed().is_none() && *c.endpoint() == endpoint)
        {
            return Ok(client);
        }
        let client = self.apart(address, database).await?;
        self.databases.lock().await.insert(key, client.clone());
        Ok(client)
    }

    /// A connection of its own to the server at this address, which works on this database and is not held.
    pub(crate) async fn apart(&self, address: &Address, database: u32) -> Result<Client, Error> {
        let endpoint = Endpoint::from(address);
        let client = Client::connect_to_database(&endpoint, &self.access, database).await?;
        if let Some(pen) = &self.pen {
            client.set_name(pen).await?;
        }
        Ok(client)
    }

    /// Ends when a held connection has closed.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Whether the server let its time run out when it was asked last.
    pub(crate) fn was_silent(&self, server: &ServerName) -> bool {
        self.silent().contains(server)
    }

    /// Remembers whether it did.
    pub(crate) fn note_silence(&self, server: &ServerName, silent: bool) {
        if silent {
            self.silent().insert(server.clone());
        } else {
            self.silent().remove(server);
        }
    }

    /// Begins a pass as soon as a server that stands still answers again on its held connection: what a process that was
    /// frozen shows when it goes on, it may show for milliseconds only. One that is merely slow wakes nobody: it answers a
    /// short question in time.
    pub(crate) async fn wake_once_it_answers(&self, server: &ServerName) {
        let held = self.held.lock().await.get(server).cloned();
        let Some(client) = held.filter(|client| client.is_closed().is_none()) else {
            return;
        };
        if !names(&self.awaited).insert(server.clone()) {
            return;
        }
        let (server, wake) = (server.clone(), Arc::clone(&self.wake));
        let awaited = Arc::downgrade(&self.awaited);
        tokio::spawn(async move {
            // Each question has the time of any other; the last is asked when nobody holds these connections any more.
            let late = |answer: Result<(), Error>| matches!(answer, Err(Error::TimedOut { .. }));
            let mut stands_still = false;
            while awaited.strong_count() > 0 && late(client.ping().await) {
                stands_still = true;
            }
            if let Some(awaited) = awaited.upgrade() {
                names(&awaited).remove(&server);
                if stands_still {
                    wake.notify_one();
                }
            }
        });
    }

    /// What the server at the other end of this very connection said of itself a short while ago, and how long ago.
    pub(crate) fn known(
        &self,
        server: &ServerName,
        client: &Client,
    ) -> Option<(ServerInfo, Duration)> {
        let known = self.all_known();
        let known = known.get(server).filter(|k| k.client.is_same(client))?;
        let age = known.at.elapsed();
        (age < KNOWN_FOR).then(|| (known.info.clone(), age))
    }

    /// Remembers what a server said of itself.
    pub(crate) fn note(&self, server: &ServerName, client: &Client, info: &ServerInfo) {
        let known = Known {
            client: client.clone(),
            info: info.clone(),
            at: Instant::now(),
        };
        self.all_known().insert(server.clone(), known);
    }

    /// What was counted of a server's slots the last time.
    pub(crate) fn counted(&self, server: &ServerName) -> Option<Counted> {
        self.all_counted().get(server).cloned()
    }

    /// Remembers what was counted of a server's slots.
    pub(crate) fn note_counted(&self, server: &ServerName, counted: Counted) {
        self.all_counted().insert(server.clone(), counted);
    }

    /// The libraries of functions that were read of a server the last time.
    pub(crate) fn libraries_read(&self, server: &ServerName) -> Option<ReadLibraries> {
        self.all_libraries().get(server).cloned()
    }

    /// Remembers the libraries of functions that were read of a server.
    pub(crate) fn note_libraries(&self, server: &ServerName, read: ReadLibraries) {
        self.all_libraries().insert(server.clone(), read);
    }

    /// Reads a server's libraries of functions anew the next time.
    pub(crate) fn forget_libraries(&self, server: &ServerName) {
        self.all_libraries().remove(server);
    }

    fn all_libraries(&self) -> std::sync::MutexGuard<'_, BTreeMap<ServerName, ReadLibraries>> {
        // A map of whole values is whole whatever panicked while it was held.
        self.libraries
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn all_counted(&self) -> std::sync::MutexGuard<'_, BTreeMap<ServerName, Counted>> {
        // A map of whole values is whole whatever panicked while it was held.
        self.counted
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn all_known(&self) -> std::sync::MutexGuard<'_, BTreeMap<ServerName, Known>> {
        // A map of whole values is whole whatever panicked while it was held.
        self.known
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn silent(&self) -> std::sync::MutexGuard<'_, BTreeSet<ServerName>> {
        names(&self.silent)
    }
}

/// A set of names is whole whatever panicked while it was held.
fn names(
    of: &std::sync::Mutex<BTreeSet<ServerName>>,
) -> std::sync::MutexGuard<'_, BTreeSet<ServerName>> {
    of.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
