//! Passwords that are changed while servers run.

use serde_json::{Value, json};
use shardwright_e2e::error::ensure;
use shardwright_e2e::kube_api::{Deletion, text};
use shardwright_e2e::servers::{Cluster, ask_as};
use shardwright_e2e::wait::until;
use shardwright_e2e::world::{READY_LIMIT, condition_of, status_line};
use shardwright_e2e::{Error, Kind, Result, World};

use crate::failures::{WHOLE, shard_at, small, until_new};

const COUNT: usize = 6;
/// The Secret with the passwords of these users, each under the user's name.
const SECRET: &str = "mine";
const USERS: [&str; 3] = ["app", "replication", "shardwright"];

/// The passwords after this many changes.
fn passwords(times: u32) -> Value {
    USERS
        .iter()
        .map(|user| ((*user).to_owned(), json!(format!("{user}-{times}"))))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

async fn change(world: &World, times: u32) -> Result<()> {
    let patch = json!({"stringData": passwords(times)});
    world
        .kube
        .patch(Kind::SECRET, &world.namespace, SECRET, patch)
        .await
}

/// A Secret with the passwords of the operator, of replication and of an application changed twice, with a pod that
/// starts after each: nobody is locked out, and it is said which passwords the servers have. Put back, nothing is said.
pub(crate) async fn changed(world: World) -> Result<()> {
    world
        .kube
        .apply(&json!({
            "apiVersion": "v1", "kind": "Secret", "stringData": passwords(0),
            "metadata": {"name": SECRET, "namespace": world.namespace},
        }))
        .await?;
    let from = |user: &str| json!({"name": SECRET, "key": user});
    let users = json!([
        {"name": "default", "rules": "~* &* +@all"},
        {"name": "app", "rules": "~* &* +@all -@dangerous", "passwordSecret": from("app")},
        {"name": "replication", "passwordSecret": from("replication")},
        {"name": "shardwright", "passwordSecret": from("shardwright")},
    ]);
    let cluster = small(&world, json!({"users": users})).await?;
    let writer = world.writer(&cluster, "default").await?;
    for times in [1, 2] {
        change(&world, times).await?;
        let took = world
            .until_condition(
                "small",
                "PasswordsApplied",
                "False",
                "PasswordChanged",
                READY_LIMIT,
            )
            .await?;
        world.took("password changed → told", took, "");
        let object = world
            .kube
            .must(Kind::CLUSTER, &world.namespace, "small")
            .await?;
        let told = condition_of(&object, "PasswordsApplied").map_or("", |c| text(c, "/message"));
        for user in USERS {
            ensure(told.contains(&format!("the user {user} ")), || {
                format!("{user} is not named: {told}")
            })?;
            ensure(!told.contains(&format!("{user}-{times}")), || {
                format!("a password is told: {told}")
            })?;
        }
        let state = text(&object, "/status/state").to_owned();
        ensure(state == "Healthy", || format!("the state is {state}"))?;
        a_replica_starts(&world, &cluster, usize::try_from(times).unwrap_or(0)).await?;
        let login = ("app".to_owned(), "app-0".to_owned());
        for address in cluster.addresses().await? {
            let answer: String = ask_as(&address, Some(&login), &["PING"]).await?;
            ensure(answer == "PONG", || format!("{address} answers {answer}"))?;
        }
    }
    change(&world, 0).await?;
    until("nothing is said of passwords", READY_LIMIT, || async {
        let object = world
            .kube
            .must(Kind::CLUSTER, &world.namespace, "small")
            .await?;
        let told = condition_of(&object, "PasswordsApplied").is_some();
        Ok(if told {
            Err(status_line(&object))
        } else {
            Ok(())
        })
    })
    .await?;
    a_replica_starts(&world, &cluster, 0).await?;
    world.until_ready("small", READY_LIMIT).await?;
    writer.end(&cluster).await?.nothing_lost()
}

/// A replica's pod is made anew: its server logs in at its primary, and the operator at it.
async fn a_replica_starts(world: &World, cluster: &Cluster, shard: usize) -> Result<()> {
    let (shards, _) = cluster.until_agreed(COUNT, WHOLE).await?;
    let replica = shard_at(&shards, shard)?.replicas.first();
    let replica = replica.ok_or_else(|| Error::Wrong("a shard without a replica".to_owned()))?;
    world
        .kube
        .delete(
            Kind::POD,
            &world.namespace,
            &replica.name,
            Deletion::default(),
        )
        .await?;
    until_new(cluster, replica).await?;
    cluster.until_agreed(COUNT, WHOLE).await?;
    Ok(())
}
