//! Waiting for a condition, with a deadline; never for a fixed time.

use std::time::{Duration, Instant};

use crate::{Error, Result};

/// How long between two looks: short beside what is measured in seconds, long enough that ten
/// waiting cases are no load on the API server.
const PAUSE: Duration = Duration::from_millis(40);

/// Looks until `look` answers `Ok(Ok(found))`, and returns it and how long it took.
/// `Ok(Err(seen))` is what was seen instead. An error of the look itself counts as seen: an API
/// server that is away for a moment is part of what is tested.
pub async fn until<T, F, Fut>(what: &str, limit: Duration, mut look: F) -> Result<(T, Duration)>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<std::result::Result<T, String>>>,
{
    let start = Instant::now();
    loop {
        // A look that hangs is no look: the deadline holds for it as well.
        let left = limit.saturating_sub(start.elapsed()) + PAUSE;
        let last = match tokio::time::timeout(left, look()).await {
            Ok(Ok(Ok(found))) => return Ok((found, start.elapsed())),
            Ok(Ok(Err(seen))) => seen,
            Ok(Err(error)) => error.with_causes(),
            Err(_) => "no answer to the last look".to_owned(),
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

/// Looks for the whole of `span`, and fails as soon as it is not so: for what must *not* happen.
pub async fn stays<F, Fut>(what: &str, span: Duration, mut look: F) -> Result<()>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<std::result::Result<(), String>>>,
{
    let start = Instant::now();
    while start.elapsed() < span {
        if let Err(seen) = look().await? {
            return Error::wrong(format!(
                "{what}: no longer so after {:.1} s: {seen}",
                start.elapsed().as_secs_f64()
            ));
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// A span of time that is part of the scene, such as "one of them 40 s late".
pub async fn pass(span: Duration) {
    tokio::time::sleep(span).await;
}
