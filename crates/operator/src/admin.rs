//! The admin server: `/livez`, `/readyz` and `/metrics`, and nothing more.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::metrics::Metrics;

/// How long a pass may take before the process counts as stuck. A pass ends within seconds: every call in it has a
/// time limit of its own. Where many share a processor it may take minutes, and a process that is killed then leaves
/// slots half moved, and begins anew.
const STUCK_AFTER: Duration = Duration::from_secs(600);

/// How this process is.
#[derive(Debug, Default)]
pub struct Health {
    ready: AtomicBool,
    next: AtomicU64,
    under_way: std::sync::Mutex<BTreeMap<u64, Instant>>,
}

impl Health {
    /// The API server has answered: this operator can lead or wait for its turn.
    pub fn is_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    /// A pass begins; it ends when what is returned is dropped.
    pub fn begin(self: &Arc<Self>) -> UnderWay {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.passes().insert(number, Instant::now());
        UnderWay {
            health: Arc::clone(self),
            number,
        }
    }

    /// How long the pass that has taken longest is under way, at this time.
    fn longest(&self, now: Instant) -> Option<Duration> {
        let passes = self.passes();
        let times = passes.values().map(|begun| now.duration_since(*begun));
        times.max()
    }

    fn passes(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Instant>> {
        // A map of times is whole whatever panicked while it was held.
        self.under_way
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A pass that is under way.
#[derive(Debug)]
pub struct UnderWay {
    health: Arc<Health>,
    number: u64,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.health.passes().remove(&self.number);
    }
}

/// What the admin server tells of.
#[derive(Clone, Debug)]
struct Told {
    health: Arc<Health>,
    metrics: Arc<Metrics>,
}

/// The address of the admin server can't be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}; choose another with --admin-addr")]
pub struct AdminError {
    address: SocketAddr,
    source: std::io::Error,
}

/// Serves from now on, in a task of its own. The address it listens on.
///
/// # Errors
/// When the address can't be listened on.
pub async fn serve(
    address: SocketAddr,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
) -> Result<SocketAddr, AdminError> {
    let failed = |source| AdminError { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(text))
        .with_state(Told { health, metrics });
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the admin server ended");
        }
    });
    Ok(bound)
}

async fn livez(State(told): State<Told>) -> Response {
    match told.health.longest(Instant::now()) {
        Some(time) if time > STUCK_AFTER => {
            let text = format!("a pass is under way for {} s\n", time.as_secs());
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
        Some(_) | None => "ok\n".into_response(),
    }
}

async fn readyz(State(told): State<Told>) -> Response {
    if told.health.ready.load(Ordering::Relaxed) {
        "ok\n".into_response()
    } else {
        let text = "the API server has not answered yet\n";
        (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
    }
}

async fn text(State(told): State<Told>) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match told.metrics.text() {
        Some(text) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream
            .write_all(request.as_bytes())
            .await
            .expect("it reads");
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .await
            .expect("it answers");
        answer
    }

    #[tokio::test]
    async fn it_tells_whether_it_lives_and_is_ready() {
        let (health, metrics) = (Arc::new(Health::default()), Arc::new(Metrics::default()));
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let address = serve(any, Arc::clone(&health), metrics)
            .await
            .expect("a free port");
        assert!(ask(address, "/livez").await.starts_with("HTTP/1.1 200"));
        assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 503"));
        health.is_ready();
        assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        assert!(
            ask(address, "/metrics")
                .await
                .contains("shardwright_passes_total 0")
        );
        assert!(ask(address, "/else").await.starts_with("HTTP/1.1 404"));
    }

    #[test]
    fn a_pass_that_does_not_end_is_seen() {
        let health = Arc::new(Health::default());
        let now = Instant::now();
        assert_eq!(health.longest(now), None);
        let first = health.begin();
        let second = health.begin();
        let late = Instant::now() + STUCK_AFTER + Duration::from_secs(1);
        assert!(health.longest(late).is_some_and(|t| t > STUCK_AFTER));
        drop((first, second));
        assert_eq!(health.longest(late), None);
    }
}
