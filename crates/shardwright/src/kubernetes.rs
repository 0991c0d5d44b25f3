//! A cluster on Kubernetes, from outside: looked at through the API server, and asked for on its object.

mod ask;
mod shape;

use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use shardwright_engine::{Access, Credentials, Secret, Timeouts};
use shardwright_manifest::{
    Accepted, Cluster, ConditionStatus, MovesStatus, RedisClusterStatus, SHARDWRIGHT_USER,
    StateWord,
};
use shardwright_operator::status::UP_TO_DATE;
use shardwright_planner::Desired;
use shardwright_runtime::{Keeper, Links, Runtime};
use shardwright_runtime_kubernetes::{
    ClusterObject, Forwards, ObjectKey, Visit, names, outside, own_password,
};
use shardwright_topology::Observed;

pub(crate) use self::ask::carry_out;
pub(crate) use self::shape::{Wait, cancel, pause, preview, scale};

use crate::cli::{KubeArgs, Login};
use crate::connect::{AnyKeeper, Purpose, access, tls};
use crate::exit::UsageError;
use crate::printer::Printer;

/// How long a way through the API server and the kubelet may take to open: two handshakes of TLS, perhaps over the
/// world.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// A keeper that only looks, and what it sees.
pub(crate) async fn look_at(
    key: &ObjectKey,
    login: &Login,
    out: &mut Printer,
) -> anyhow::Result<(AnyKeeper, Observed)> {
    let client = client(&login.kube).await?;
    let object = must_be(&client, key).await?;
    let Accepted { cluster, .. } = object
        .accepted()
        .with_context(|| format!("the RedisCluster {key} can't be used"))?;
    look_at_as(&client, &object, cluster, login, out).await
}

/// The same of an object that was read, as if this were declared.
async fn look_at_as(
    client: &Client,
    object: &ClusterObject,
    cluster: Cluster,
    login: &Login,
    out: &mut Printer,
) -> anyhow::Result<(AnyKeeper, Observed)> {
    let (client, key) = (client.clone(), &object.key);
    let forwards = Forwards::new(client.clone(), &key.namespace);
    let own = login.user.is_none() && login.password_file.is_none() && !login.askpass;
    let (credentials, password) = if own {
        let password = own_password(&client, &cluster).await.context(
            "cannot enter as Shardwright's own user; else give another: --user NAME --password-file FILE",
        )?;
        let password = Secret::new(password.expose());
        let credentials = Credentials {
            user: Some(SHARDWRIGHT_USER.to_owned()),
            password: password.clone(),
        };
        (Some(credentials), Some(password))
    } else {
        // The gates know no other user than ours.
        (access(login, out)?.credentials, None)
    };
    let access = Access {
        credentials,
        alternative: None,
        tls: tls(login)?,
        timeouts: Timeouts {
            connect: CONNECT_LIMIT,
            command: Duration::from_millis(login.command_timeout),
        },
        dial: Some(std::sync::Arc::new(forwards.clone())),
    };
    let desired = Desired {
        moves_paused: object.moves_paused(),
        ..cluster.desired()
    };
    // What is only looked at is shown whole.
    let limits = Purpose::Read.limits(cluster.limits());
    let visit = Visit::new(client, key.clone(), cluster, forwards.clone(), password);
    let runtime: Box<dyn Runtime> = Box::new(visit);
    let mut keeper = Keeper::new(runtime, Links::new(access, None), desired, limits);
    let observed = keeper.observe().await?;
    match forwards.denied() {
        Some(denied) => Err(anyhow::anyhow!("{denied}")),
        None => Ok((keeper, observed)),
    }
}

/// What the operator says of the move of slots that is under way.
pub(crate) async fn moves(key: &ObjectKey, login: &Login) -> anyhow::Result<Option<MovesStatus>> {
    let client = client(&login.kube).await?;
    Ok(status(&must_be(&client, key).await?).moves)
}

/// What an object's status adds to what the servers say.
#[derive(Debug)]
pub(crate) struct Told {
    /// That the operator no longer updates it, as it would every minute.
    pub(crate) stale: Option<String>,
    /// What is declared and not so in what runs.
    pub(crate) not_applied: Option<String>,
}

/// Reads what an object's status adds to what the servers say.
pub(crate) async fn told(key: &ObjectKey, login: &Login) -> anyhow::Result<Told> {
    let client = client(&login.kube).await?;
    let status = status(&must_be(&client, key).await?);
    Ok(Told {
        stale: stale_text(&status, Timestamp::now()),
        not_applied: not_applied(&status),
    })
}

fn not_applied(status: &RedisClusterStatus) -> Option<String> {
    let mut lacks = status.conditions.iter();
    let lacks = lacks.find(|c| c.kind == UP_TO_DATE && c.status == ConditionStatus::False)?;
    Some(lacks.message.clone())
}

/// From what age on a status is stale, in seconds: twice as old as the operator lets it become, with room for a busy one.
const STALE_AFTER_S: i64 = 150;

fn stale_text(status: &RedisClusterStatus, now: Timestamp) -> Option<String> {
    // One that is left alone is not looked at.
    if status.state == Some(StateWord::Paused) {
        return None;
    }
    let last = status.last_observed.as_ref()?;
    let at = last.parse::<Timestamp>().ok()?;
    let age_s = now.as_second().saturating_sub(at.as_second());
    if age_s < STALE_AFTER_S {
        return None;
    }
    let age_min = age_s / 60;
    Some(format!(
        "the status of the RedisCluster is {age_min} min old (of {last}): no operator has looked at the cluster since; see whether one runs: kubectl get pods -A -l {}={},{}={}",
        names::NAME_LABEL,
        names::OPERATOR_APP,
        names::COMPONENT_LABEL,
        names::OPERATOR_COMPONENT
    ))
}

/// The status as far as it can be read. That of a newer operator may say more.
fn status(object: &ClusterObject) -> RedisClusterStatus {
    let read = object.status.clone().map(serde_json::from_value);
    match read {
        Some(Ok(status)) => status,
        Some(Err(_)) | None => RedisClusterStatus::default(),
    }
}

/// The object, which must be there.
async fn must_be(client: &Client, key: &ObjectKey) -> anyhow::Result<ClusterObject> {
    let object = match outside::read(client, key).await {
        Err(error) if error.code() != Some(404) => return Err(error.into()),
        Ok(Some(object)) => return Ok(object),
        Ok(None) | Err(_) => {
            let ObjectKey { namespace, name } = key;
            format!(
                "there is no RedisCluster {name} in the namespace {namespace}; see: kubectl get redisclusters -A"
            )
        }
    };
    Err(UsageError(object).into())
}

/// The version of the Kubernetes that is meant, major and minor. Absent where none is known here, or where what it tells
/// can't be read.
///
/// # Errors
/// Where one is known, and can't be asked.
pub(crate) async fn server_version(args: &KubeArgs) -> anyhow::Result<Option<(u32, u32)>> {
    let named = args.context.is_some() || args.kubeconfig.is_some();
    if !named && Config::infer().await.is_err() {
        return Ok(None);
    }
    let client = client(args).await?;
    Ok(outside::version(&client).await?)
}

/// A client of the API server that is meant: as kubectl finds it, or in a pod that of its cluster.
pub(crate) async fn client(args: &KubeArgs) -> anyhow::Result<Client> {
    let options = KubeConfigOptions {
        context: args.context.clone(),
        ..KubeConfigOptions::default()
    };
    let config = match &args.kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).map_err(|e| unusable(&e))?;
            Config::from_custom_kubeconfig(file, &options)
                .await
                .map_err(|e| unusable(&e))?
        }
        None if args.context.is_some() => Config::from_kubeconfig(&options)
            .await
            .map_err(|e| unusable(&e))?,
        None => Config::infer().await.map_err(|error| {
            let text = format!(
                "no Kubernetes is known here; set KUBECONFIG, or give --kubeconfig: {error}"
            );
            UsageError(text)
        })?,
    };
    Client::try_from(config).context("cannot make a client for the API server")
}

fn unusable(error: &KubeconfigError) -> UsageError {
    let mut text = format!("the kubeconfig can't be used: {error}");
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    UsageError(text)
}

/// A version of Kubernetes (major, minor) as it is written: `1.37`, `v1.37.2`.
pub(crate) fn parse_version(text: &str) -> Result<(u32, u32), UsageError> {
    let numbers = text.strip_prefix('v').unwrap_or(text).split_once('.');
    let version = numbers.and_then(|(major, rest)| {
        let minor = rest.split('.').next()?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    });
    version.ok_or_else(|| UsageError(format!("--kubernetes {text}: write a version such as 1.20")))
}

/// The namespace that kubectl would take where none is named: the context's.
pub(crate) fn namespace(args: &KubeArgs) -> String {
    const DEFAULT: &str = "default";
    let file = match &args.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    // Without a kubeconfig nothing can be reached either, and connecting tells of that.
    let Ok(file) = file else {
        return DEFAULT.to_owned();
    };
    let current = args.context.as_ref().or(file.current_context.as_ref());
    let context = file
        .contexts
        .iter()
        .find(|context| Some(&context.name) == current)
        .and_then(|context| context.context.as_ref());
    let namespace = context.and_then(|context| context.namespace.clone());
    namespace
        .filter(|namespace| !namespace.is_empty())
        .unwrap_or_else(|| DEFAULT.to_owned())
}

#[cfg(test)]
mod tests {
    use shardwright_manifest::Condition;

    use super::*;

    #[test]
    fn a_status_that_is_no_longer_updated_is_told_with_its_age() {
        let status = |state| RedisClusterStatus {
            state: Some(state),
            last_observed: Some("2026-01-01T00:00:00Z".to_owned()),
            ..RedisClusterStatus::default()
        };
        let after = |time: &str, state| stale_text(&status(state), time.parse().expect("a time"));
        assert_eq!(after("2026-01-01T00:02:29Z", StateWord::Healthy), None);
        let told = after("2026-01-01T00:04:30Z", StateWord::Healthy).expect("it is old");
        assert!(told.contains("is 4 min old"), "{told}");
        assert!(
            told.ends_with(
                "-l app.kubernetes.io/name=shardwright,app.kubernetes.io/component=operator"
            ),
            "{told}"
        );
        assert_eq!(after("2026-01-01T00:04:30Z", StateWord::Paused), None);
        let none = RedisClusterStatus::default();
        assert_eq!(stale_text(&none, Timestamp::UNIX_EPOCH), None);
    }

    #[test]
    fn what_is_not_applied_is_told_as_the_operator_says_it() {
        let condition = |status| Condition {
            kind: UP_TO_DATE.to_owned(),
            status,
            reason: "Why".to_owned(),
            message: "declared and not so: image".to_owned(),
            last_transition_time: String::new(),
            observed_generation: None,
        };
        let of = |status| {
            let conditions = vec![condition(status)];
            not_applied(&RedisClusterStatus {
                conditions,
                ..RedisClusterStatus::default()
            })
        };
        let text = "declared and not so: image".to_owned();
        assert_eq!(of(ConditionStatus::False), Some(text));
        assert_eq!(of(ConditionStatus::True), None);
        assert_eq!(not_applied(&RedisClusterStatus::default()), None);
    }
}
