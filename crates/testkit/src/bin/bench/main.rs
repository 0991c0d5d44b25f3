//! Measurements on real servers, against the rival of each. They print figures and judge nothing
//! but failures: a machine that is busy with other things makes every figure worse.
//!
//!   bench create|failover|restart|kills [--engine NAME]... [--runs N] [--seed N] [--trace]
//!   bench reshard [--engine NAME]... [--runs N] [--data NAME]... [--way TEXT]... [--still]
//!                 [--keys N] [--large-keys N] [--zset-mb N] [--rate N]

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "printing figures is what this program is for"
)]

mod create;
mod failover;
mod figures;
mod kills;
mod local;
mod reshard;
mod restart;
mod scene;
mod view;

use std::process::ExitCode;

use shardwright_testkit::{Engine, engines};

use crate::local::Failure;

/// What was asked for.
#[derive(Debug, Default)]
pub(crate) struct Options {
    engines: Vec<String>,
    /// Rounds of each kind; each verb has its own default.
    pub(crate) runs: Option<usize>,
    /// What the first run is drawn from, where runs are drawn; each further run adds one.
    pub(crate) seed: Option<u64>,
    /// Show what the watch logged around every gap.
    pub(crate) trace: bool,
    /// What `reshard` moves.
    pub(crate) scope: reshard::Scope,
}

impl Options {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut options = Self::default();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "--engine" => options.engines.push(value()?),
                "--runs" => options.runs = Some(value()?.parse()?),
                "--seed" => options.seed = Some(value()?.parse()?),
                "--trace" => options.trace = true,
                "--data" => options.scope.data.push(value()?),
                "--way" => options.scope.ways.push(value()?),
                "--still" => options.scope.still = true,
                "--keys" => options.scope.keys = at_least_one(&word, &value()?)?,
                "--large-keys" => options.scope.large_keys = at_least_one(&word, &value()?)?,
                "--zset-mb" => options.scope.zset_mb = at_least_one(&word, &value()?)?,
                "--rate" => options.scope.rate = at_least_one(&word, &value()?)?,
                _ => return Err(format!("{word} is not known").into()),
            }
        }
        Ok(options)
    }

    /// The named engines; else these.
    pub(crate) fn engines_or(&self, names: &[&str]) -> Result<Vec<Engine>, Failure> {
        if !self.engines.is_empty() {
            return self.engines();
        }
        let found = names.iter().map(|name| shardwright_testkit::engine(name));
        Ok(found.collect::<Result<_, _>>()?)
    }

    /// The named engines; else all that are found.
    pub(crate) fn engines(&self) -> Result<Vec<Engine>, Failure> {
        if self.engines.is_empty() {
            let found = engines();
            for rejected in &found.rejected {
                eprintln!("skipped: {}: {}", rejected.path.display(), rejected.why);
            }
            if found.usable.is_empty() {
                return Err("no engine on this machine; run: make engines".into());
            }
            return Ok(found.usable.clone());
        }
        let named = self.engines.iter();
        Ok(named
            .map(|name| shardwright_testkit::engine(name))
            .collect::<Result<_, _>>()?)
    }
}

fn at_least_one(word: &str, text: &str) -> Result<u64, Failure> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("{word} {text}: write a number from 1 on").into()),
    }
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let verb = words.next().unwrap_or_default();
    let done = Options::read(words).and_then(|options| run(&verb, &options));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench {verb}: {}", with_causes(&*failure));
            ExitCode::FAILURE
        }
    }
}

fn run(verb: &str, options: &Options) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let bench = async {
            match verb {
                "create" => create::run(options).await,
                "failover" => failover::run(options).await,
                "reshard" => reshard::run(options).await,
                "restart" => restart::run(options).await,
                "kills" => kills::run(options).await,
                _ => Err("say what to measure: create, failover, reshard, restart or kills".into()),
            }
        };
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        // Leaving by a signal drops what runs, and so ends every server.
        tokio::select! {
            done = bench => done,
            _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
            _ = terminate.recv() => Err("terminated".into()),
        }
    })
}

fn with_causes(failure: &dyn std::error::Error) -> String {
    let mut text = failure.to_string();
    let mut next = failure.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
