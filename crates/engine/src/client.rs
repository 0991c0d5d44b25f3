//! One held connection to one server.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, Pipeline, RedisConnectionInfo, Value};
use shardwright_topology::NodeId;
use shardwright_topology::wire::Reply;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::close::{Close, Noted};
use crate::error::Asked;
use crate::{Access, Credentials, Dialled, Endpoint, Error, Timeouts, socket};

/// One held connection to one server. Clones share it; calls made at the same time are sent
/// at once and answered in turn. It closes when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Client {
    connection: MultiplexedConnection,
    shared: Arc<Shared>,
    /// The database that this connection works on.
    database: u32,
}

#[derive(Debug)]
struct Shared {
    endpoint: Endpoint,
    user: Option<String>,
    peer: SocketAddr,
    timeouts: Timeouts,
    closed: watch::Receiver<Option<Close>>,
    driver: JoinHandle<()>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A command and the name it goes by in errors: never its arguments, they may be secret.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) name: &'static str,
    pub(crate) cmd: Cmd,
}

impl Request {
    /// A command of these words; `name` is those of them that errors may show.
    pub(crate) fn new(name: &'static str) -> Self {
        let mut cmd = Cmd::new();
        for word in name.split(' ') {
            cmd.arg(word);
        }
        Self { name, cmd }
    }

    pub(crate) fn arg<T: redis::ToRedisArgs>(mut self, arg: T) -> Self {
        self.cmd.arg(arg);
        self
    }

    pub(crate) fn id(self, id: NodeId) -> Self {
        self.arg(id.to_string())
    }
}

impl Client {
    /// Whether this is the same connection: then the same process is at its other end.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Opens a connection and logs in where the access says as whom.
    ///
    /// Nothing else is sent: no `HELLO`, no `CLIENT SETINFO`, which a restricted user may lack.
    pub async fn connect(endpoint: &Endpoint, access: &Access) -> Result<Self, Error> {
        let limit = access.timeouts.connect;
        let unreachable = |why| Error::Unreachable {
            endpoint: endpoint.clone(),
            why,
        };
        let connected = AtomicBool::new(false);
        let opened = timeout(limit, async {
            match &access.dial {
                None => {
                    let (stream, peer) =
                        socket::open(endpoint, limit).await.map_err(unreachable)?;
                    connected.store(true, Ordering::Relaxed);
                    enter(endpoint, access, stream, peer).await
                }
                Some(dial) => {
                    let Dialled { stream, peer } =
                        dial.dial(endpoint).await.map_err(unreachable)?;
                    connected.store(true, Ordering::Relaxed);
                    enter(endpoint, access, stream, peer).await
                }
            }
        });
        let late = |_| {
            let shaking = connected.load(Ordering::Relaxed) && access.tls.is_some();
            Err(unreachable(if shaking {
                crate::Unreachable::NoHandshake
            } else {
                crate::Unreachable::TimedOut
            }))
        };
        let client = opened.await.unwrap_or_else(late)?;
        client.log_in(access).await?;
        Ok(client)
    }

    /// Logs in where the access says as whom: with what a server took last, then with the other. A server that refuses
    /// a password keeps the connection open.
    async fn log_in(&self, access: &Access) -> Result<(), Error> {
        let Some(first) = &access.credentials else {
            return Ok(());
        };
        let Some(other) = &access.alternative else {
            return self.authenticate(first).await;
        };
        let other_first = other.was_accepted();
        let (one, two) = if other_first {
            (other.credentials(), first)
        } else {
            (first, other.credentials())
        };
        match self.authenticate(one).await {
            Err(Error::Auth { .. }) => {
                self.authenticate(two).await?;
                other.note(!other_first);
                Ok(())
            }
            answer => answer,
        }
    }

    async fn authenticate(&self, credentials: &Credentials) -> Result<(), Error> {
        let mut login = Request::new("AUTH");
        if let Some(user) = &credentials.user {
            login = login.arg(user);
        }
        self.done(login.arg(credentials.password.expose())).await
    }

    /// Opens a connection that works on this database: what it asks of keys concerns them alone.
    ///
    /// # Errors
    /// Also where the server has no such database ([`Error::is_no_database`]) or does not allow it.
    pub async fn connect_to_database(
        endpoint: &Endpoint,
        access: &Access,
        database: u32,
    ) -> Result<Self, Error> {
        let client = Self::connect(endpoint, access).await?;
        if database == 0 {
            return Ok(client);
        }
        client.done(Request::new("SELECT").arg(database)).await?;
        Ok(Self { database, ..client })
    }

    /// The database that this connection works on.
    pub fn database(&self) -> u32 {
        self.database
    }

    /// Where it was told to connect.
    pub fn endpoint(&self) -> &Endpoint {
        &self.shared.endpoint
    }

    /// The IP address that the connection goes to, as `CLUSTER MEET` wants it.
    pub fn ip(&self) -> IpAddr {
        self.shared.peer.ip()
    }

    /// Ends when the connection has closed, and tells how. It is noticed within milliseconds
    /// of the server's death, without sending anything; a server that is merely silent, or
    /// whose host vanished, is not noticed by this.
    pub async fn closed(&self) -> Close {
        let mut closed = self.shared.closed.clone();
        let seen = closed.wait_for(Option::is_some).await.map(|close| *close);
        // The driver's end without a word would be a defect of the driver.
        seen.ok().flatten().unwrap_or(Close::Strange)
    }

    /// How the connection closed, if it has.
    pub fn is_closed(&self) -> Option<Close> {
        *self.shared.closed.borrow()
    }

    /// Sends one command and waits for the reply as long as the timeouts say.
    pub(crate) async fn ask(&self, request: Request) -> Result<Value, Error> {
        self.ask_within(request, self.shared.timeouts.command).await
    }

    /// The same with another limit, for commands that take their time by design.
    pub(crate) async fn ask_within(
        &self,
        request: Request,
        limit: Duration,
    ) -> Result<Value, Error> {
        let asked = self.asked(request.name);
        let mut connection = self.connection.clone();
        let reply = timeout(limit, connection.send_packed_command(&request.cmd)).await;
        match reply {
            Err(_) => Err(self.too_late(request.name, limit)),
            Ok(Err(error)) => Err(asked.failed(&error, self.how_closed(&error).await)),
            Ok(Ok(Value::ServerError(error))) => Err(asked.server_error(&error)),
            Ok(Ok(value)) => Ok(value),
        }
    }

    /// Sends all commands in one round trip. Each has its own result; the outer error is one
    /// that concerns all of them, such as a closed connection.
    pub(crate) async fn ask_all(
        &self,
        name: &'static str,
        requests: Vec<Request>,
    ) -> Result<Vec<Result<Value, Error>>, Error> {
        let limit = self.shared.timeouts.command;
        self.ask_all_within(name, requests, limit).await
    }

    /// The same with another limit.
    pub(crate) async fn ask_all_within(
        &self,
        name: &'static str,
        requests: Vec<Request>,
        limit: Duration,
    ) -> Result<Vec<Result<Value, Error>>, Error> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let count = requests.len();
        let mut batch = Pipeline::with_capacity(count);
        let mut names = Vec::with_capacity(count);
        for request in requests {
            names.push(request.name);
            batch.add_command(request.cmd);
        }
        let mut connection = self.connection.clone();
        let replies = match timeout(limit, connection.send_packed_commands(&batch, 0, count)).await
        {
            Err(_) => return Err(self.too_late(name, limit)),
            Ok(Err(error)) => {
                return Err(self
                    .asked(name)
                    .failed(&error, self.how_closed(&error).await));
            }
            Ok(Ok(replies)) => replies,
        };
        if replies.len() != count {
            return Err(self
                .asked(name)
                .strange(format!("{} replies", replies.len())));
        }
        let each = names
            .into_iter()
            .zip(replies)
            .map(|(name, value)| match value {
                Value::ServerError(error) => Err(self.asked(name).server_error(&error)),
                value => Ok(value),
            });
        Ok(each.collect())
    }

    /// Sends a command whose only good reply is `OK`.
    pub(crate) async fn done(&self, request: Request) -> Result<(), Error> {
        let name = request.name;
        let value = self.ask(request).await?;
        self.expect_ok(name, &value)
    }

    pub(crate) fn expect_ok(&self, name: &'static str, value: &Value) -> Result<(), Error> {
        match value {
            Value::Okay => Ok(()),
            other => Err(self.asked(name).strange(format!("{other:?} instead of OK"))),
        }
    }

    /// Sends a command whose reply is a text.
    pub(crate) async fn text(&self, request: Request) -> Result<Vec<u8>, Error> {
        let name = request.name;
        let value = self.ask(request).await?;
        self.expect_text(name, value)
    }

    pub(crate) fn expect_text(&self, name: &'static str, value: Value) -> Result<Vec<u8>, Error> {
        match value {
            Value::BulkString(bytes) => Ok(bytes),
            Value::SimpleString(text) | Value::VerbatimString { text, .. } => Ok(text.into_bytes()),
            other => Err(self
                .asked(name)
                .strange(format!("{other:?} instead of a text"))),
        }
    }

    /// Sends a command whose reply is a number that is not negative.
    pub(crate) async fn number(&self, request: Request) -> Result<u64, Error> {
        let name = request.name;
        let value = self.ask(request).await?;
        self.expect_number(name, &value)
    }

    pub(crate) fn expect_number(&self, name: &'static str, value: &Value) -> Result<u64, Error> {
        let number = match value {
            Value::Int(number) => u64::try_from(*number).ok(),
            _ => None,
        };
        number.ok_or_else(|| {
            self.asked(name)
                .strange(format!("{value:?} instead of a count"))
        })
    }

    pub(crate) fn asked(&self, command: &'static str) -> Asked<'_> {
        Asked {
            endpoint: self.endpoint(),
            user: self.shared.user.as_deref(),
            command,
        }
    }

    pub(crate) fn command_limit(&self) -> Duration {
        self.shared.timeouts.command
    }

    fn too_late(&self, command: &'static str, limit: Duration) -> Error {
        Error::TimedOut {
            endpoint: self.endpoint().clone(),
            command,
            limit,
        }
    }

    /// How the connection ended, where the error means that it did. The driver tells the
    /// caller first and ends right after, so this waits for its word, but not for long.
    async fn how_closed(&self, error: &redis::RedisError) -> Option<Close> {
        if !error.is_unrecoverable_error() {
            return self.is_closed();
        }
        timeout(self.shared.timeouts.command, self.closed())
            .await
            .ok()
    }
}

/// Puts the protocol on an open stream, over TLS where the access says so.
async fn enter<S>(
    endpoint: &Endpoint,
    access: &Access,
    stream: S,
    peer: SocketAddr,
) -> Result<Client, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Some(tls) = &access.tls else {
        return attach(endpoint, access, stream, peer).await;
    };
    let shaken = tls.handshake(&endpoint.host, stream).await;
    let stream = shaken.map_err(|why| Error::Tls {
        endpoint: endpoint.clone(),
        why,
    })?;
    attach(endpoint, access, stream, peer).await
}

/// Puts the protocol on an open stream.
async fn attach<S>(
    endpoint: &Endpoint,
    access: &Access,
    stream: S,
    peer: SocketAddr,
) -> Result<Client, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let user = access
        .credentials
        .as_ref()
        .and_then(|credentials| credentials.user.clone());
    let asked = Asked {
        endpoint,
        user: user.as_deref(),
        command: "connect",
    };
    let (stream, note) = Noted::new(stream);
    let silent = RedisConnectionInfo::default().set_skip_set_lib_name();
    // The limits are ours: per call, and around whole batches.
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let made = MultiplexedConnection::new_with_config(&silent, stream, config).await;
    let (connection, work) = made.map_err(|error| asked.failed(&error, note.get().copied()))?;
    let (tell, closed) = watch::channel(None);
    // The driver reads even while nothing is asked, so it ends when the connection does.
    let driver = tokio::spawn(async move {
        work.await;
        tell.send_replace(Some(note.get().copied().unwrap_or(Close::Strange)));
    });
    let endpoint = endpoint.clone();
    let timeouts = access.timeouts;
    let shared = Arc::new(Shared {
        endpoint,
        user,
        peer,
        timeouts,
        closed,
        driver,
    });
    Ok(Client {
        connection,
        shared,
        database: 0,
    })
}

/// The reply in the words of the parsers.
pub(crate) fn to_reply(value: Value) -> Reply {
    let list = |values: Vec<Value>| Reply::List(values.into_iter().map(to_reply).collect());
    match value {
        Value::Nil => Reply::Nil,
        Value::Int(number) => Reply::Int(number),
        Value::BulkString(bytes) => Reply::Text(bytes),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => {
            Reply::Text(text.into_bytes())
        }
        Value::Okay => Reply::Text(b"OK".to_vec()),
        Value::Array(values) | Value::Set(values) => list(values),
        Value::Map(pairs) => Reply::Map(
            pairs
                .into_iter()
                .map(|(key, value)| (to_reply(key), to_reply(value)))
                .collect(),
        ),
        Value::Attribute { data, .. } => to_reply(*data),
        Value::Boolean(yes) => Reply::Int(i64::from(yes)),
        Value::Double(number) => Reply::Text(number.to_string().into_bytes()),
        other => Reply::Text(format!("{other:?}").into_bytes()),
    }
}
