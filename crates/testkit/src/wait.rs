//! Waiting for a condition, with a deadline; never for a fixed time.

use std::time::{Duration, Instant};

use crate::Error;

/// How long between two looks.
const PAUSE: Duration = Duration::from_millis(3);

/// Looks until `look` answers `Ok`, and returns what it found and how long it took.
/// `Err` carries what was seen instead, for the message when time is up.
pub async fn until<T, F, Fut>(
    what: &str,
    limit: Duration,
    mut look: F,
) -> Result<(T, Duration), Error>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, String>>,
{
    let start = Instant::now();
    loop {
        let last = match look().await {
            Ok(found) => return Ok((found, start.elapsed())),
            Err(seen) => seen,
        };
        if start.elapsed() > limit {
            return Err(Error::TooLate {
                what: what.to_owned(),
                waited: start.elapsed(),
                last,
            });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The same for callers that are not async.
pub fn until_blocking<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<T, String>,
) -> Result<T, Error> {
    let start = Instant::now();
    loop {
        let last = match look() {
            Ok(found) => return Ok(found),
            Err(seen) => seen,
        };
        if start.elapsed() > limit {
            return Err(Error::TooLate {
                what: what.to_owned(),
                waited: start.elapsed(),
                last,
            });
        }
        std::thread::sleep(PAUSE);
    }
}
