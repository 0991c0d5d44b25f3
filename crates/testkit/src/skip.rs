//! Tests that cannot run say so.

use std::io::Write;

/// Reports that the running test did not run. `what` names the test, `why` the reason.
///
/// The line goes to the real stderr, and to the end of the file named by
/// `SHARDWRIGHT_SKIPPED` where that is set, so that a runner can list the skips at its end.
///
/// # Panics
///
/// Where `SHARDWRIGHT_NO_SKIP` is set: a machine that promises every engine may not skip.
pub fn skipped(what: &str, why: &str) {
    assert!(
        std::env::var_os("SHARDWRIGHT_NO_SKIP").is_none(),
        "{what} may not be skipped here, but: {why}"
    );
    // One line: what a server logged before it gave up is not for the summary.
    let first = why.lines().next().unwrap_or(why);
    let line = format!("skipped: {what}: {first}\n");
    std::io::stderr()
        .write_all(line.as_bytes())
        .expect("stderr takes a line");
    if let Some(path) = std::env::var_os("SHARDWRIGHT_SKIPPED") {
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .expect("SHARDWRIGHT_SKIPPED names a file that can be written");
        file.write_all(line.as_bytes())
            .expect("the list of skips takes a line");
    }
}

/// Runs one async test on the engine that `label` names (`redis_7_0` is `redis-7.0`), or
/// reports it as skipped. Used by [`each_engine!`](crate::each_engine).
#[doc(hidden)]
pub fn run_on<F, Fut>(test: &str, label: &str, body: F) -> crate::TestResult
where
    F: FnOnce(crate::Engine) -> Fut,
    Fut: Future<Output = crate::TestResult>,
{
    let wanted = label.replacen('_', "-", 1).replace('_', ".");
    match crate::engine(&wanted) {
        Ok(engine) => {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()?;
            runtime.block_on(body(engine))
        }
        Err(why) => {
            skipped(&format!("{test}::{label}"), &why.to_string());
            Ok(())
        }
    }
}

/// One named test per engine: `each_engine! { [redis_7_0, valkey_9_1] async fn name(engine) { … } }`
/// makes the tests `name::redis_7_0` and `name::valkey_9_1`. The body sees `engine: Engine`
/// and ends in a [`TestResult`](crate::TestResult).
#[macro_export]
macro_rules! each_engine {
    ([$($label:ident),+ $(,)?] $(#[$meta:meta])* async fn $name:ident($engine:ident) $body:block) => {
        $(#[$meta])*
        mod $name {
            #[allow(unused_imports, reason = "not every body needs every name of its file")]
            use super::*;

            async fn body($engine: $crate::Engine) -> $crate::TestResult $body

            $(
                #[test]
                fn $label() -> $crate::TestResult {
                    $crate::skip::run_on(stringify!($name), stringify!($label), body)
                }
            )+
        }
    };
}
