//! What changes a cluster on Kubernetes: its operator is asked for it on the object, and watched.

use std::time::Duration;

use anyhow::{Context, bail};
use serde::Serialize;
use shardwright_manifest::{Condition, ConditionStatus, StateWord};
use shardwright_runtime::Total;
use shardwright_runtime_kubernetes::outside::{AskError, Follow, put, take_off};
use shardwright_runtime_kubernetes::wish::{
    ANSWER, Asked, FAILOVER, NO_SUCH_NODE, UNDER_WAY, UNREADABLE,
};
use shardwright_runtime_kubernetes::{ClusterObject, ObjectKey};
use tokio::time::timeout;

use super::{client, must_be, status};
use crate::cli::Login;
use crate::exit::{ExitStatus, NotDone, Refusal, UsageError, WhyNotDone};
use crate::printer::Printer;
use crate::progress::Progress;
use crate::stop::{Interrupted, signal_that_came, stop};

/// What the operator's status calls losses that only a person can accept.
const LOSSES: [&str; 4] = ["DataLost", "ShardLost", "SlotsUncovered", "StartHeld"];

/// An answer, for programs.
#[derive(Serialize)]
struct AnswerJson<'a> {
    request: String,
    done: bool,
    reason: &'a str,
    message: &'a str,
}

/// How following a request ended.
enum Ended {
    /// It was answered.
    Answered(Condition),
    /// The object is gone.
    Gone,
    /// Somebody took the request away.
    TakenAway,
}

/// Asks the operator for this, and waits for its answer. Without one in time the request is taken back.
pub(crate) async fn carry_out(
    key: &ObjectKey,
    login: &Login,
    asked: &Asked,
    timeout_s: u64,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let asked_to_stop = stop().context("cannot listen to signals")?;
    let client = client(&login.kube).await?;
    let object = must_be(&client, key).await?;
    must_be_kept(key, &object)?;
    out.record.begin();
    put(&client, key, asked).await.map_err(refused)?;
    let mut progress = Progress::new(Total::default());
    let mut latest = None;
    let limit = Duration::from_secs(timeout_s);
    let mut follow = Follow::new(&client, key);
    let followed = follow_to_answer(&mut follow, asked, &mut progress, &mut latest);
    let ended = tokio::select! {
        () = asked_to_stop => None,
        ended = timeout(limit, followed) => ended.ok(),
    };
    progress.done();
    if let Some(ended) = ended {
        return match ended? {
            Ended::Answered(answer) => tell(asked, &answer, out),
            Ended::Gone => bail!("the RedisCluster {key} was deleted"),
            Ended::TakenAway => {
                let text = format!(
                    "somebody took the request away before it was answered: {asked}; what was begun goes on"
                );
                Err(NotDone::new(WhyNotDone::Overruled, text).into())
            }
        };
    }
    let back = take_off(&client, key, asked).await;
    if !back.with_context(|| format!("not answered, and not taken back either: {asked}"))? {
        // It was answered in this moment.
        let object = must_be(&client, key).await?;
        if let Some(answer) = answer(&object, asked) {
            return tell(asked, &answer, out);
        }
    }
    if signal_that_came().is_some() {
        let text = format!("stopped; the request was taken back, what was begun goes on: {asked}");
        return Err(Interrupted(text).into());
    }
    if let Some(latest) = latest {
        let text = format!(
            "not done in time (--timeout); the request was taken back, what was begun goes on: {latest}"
        );
        return Err(NotDone::new(WhyNotDone::TimedOut, text).into());
    }
    let text = format!(
        "no operator has taken up the request, and it was taken back; does one run, and keep the namespace {}? \
         see: kubectl get pods -A -l app.kubernetes.io/name=shardwright",
        key.namespace
    );
    Err(NotDone::new(WhyNotDone::NoOperator, text).into())
}

/// Where nobody would answer, nothing is asked.
pub(super) fn must_be_kept(key: &ObjectKey, object: &ClusterObject) -> Result<(), Refusal> {
    match status(object).state {
        Some(StateWord::Paused) => Err(Refusal(format!(
            "the operator is to let go of {key} (spec.paused, or the annotation shardwright.dev/paused); take that away first"
        ))),
        Some(StateWord::Invalid) => Err(Refusal(format!(
            "the RedisCluster {key} can't be used as it stands; mend it first: kubectl describe rediscluster {} -n {}",
            key.name, key.namespace
        ))),
        Some(_) | None => Ok(()),
    }
}

fn refused(error: AskError) -> anyhow::Error {
    match error {
        AskError::Another(_) => Refusal(error.to_string()).into(),
        AskError::Request(_) | AskError::Gone(_) | AskError::Busy(_) => error.into(),
    }
}

async fn follow_to_answer(
    follow: &mut Follow,
    asked: &Asked,
    progress: &mut Progress,
    latest: &mut Option<String>,
) -> anyhow::Result<Ended> {
    loop {
        let Some(object) = follow.next().await? else {
            return Ok(Ended::Gone);
        };
        let answer = answer(&object, asked);
        if object.wishes.get(asked.key) != Some(&asked.text) {
            return Ok(answer.map_or(Ended::TakenAway, Ended::Answered));
        }
        if let Some(answer) = answer.filter(|a| a.reason == UNDER_WAY) {
            let text = words(asked, &answer).to_owned();
            progress.say(&text);
            *latest = Some(text);
        }
    }
}

/// What the status says of this request.
fn answer(object: &ClusterObject, asked: &Asked) -> Option<Condition> {
    let mut conditions = status(object).conditions.into_iter();
    conditions.find(|c| c.kind == ANSWER && c.message.starts_with(&format!("{asked}: ")))
}

/// The answer without the request in front of it.
fn words<'a>(asked: &Asked, answer: &'a Condition) -> &'a str {
    let text = answer.message.strip_prefix(&format!("{asked}: "));
    text.unwrap_or(&answer.message)
}

fn tell(asked: &Asked, answer: &Condition, out: &mut Printer) -> anyhow::Result<ExitStatus> {
    let done = answer.status == ConditionStatus::True;
    let text = words(asked, answer);
    if out.is_json() {
        let answer = AnswerJson {
            request: asked.to_string(),
            done,
            reason: &answer.reason,
            message: text,
        };
        out.record.put("answer", &answer)?;
    }
    if done {
        out.done(&format!("[OK] {text}"));
        return Ok(ExitStatus::Success);
    }
    let reason = answer.reason.as_str();
    if reason == NO_SUCH_NODE || reason == UNREADABLE {
        return Err(UsageError(text.to_owned()).into());
    }
    let remedy = (LOSSES.contains(&reason) && asked.key != FAILOVER)
        .then_some("restore its data, or go on without: --accept-data-loss");
    let hint = remedy.map_or_else(String::new, |remedy| format!("; {remedy}"));
    Err(NotDone {
        remedy: remedy.map(str::to_owned),
        ..NotDone::new(
            WhyNotDone::RequestRefused,
            format!("not done: {text}{hint}"),
        )
    }
    .into())
}
