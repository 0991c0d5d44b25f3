//! Pods that the API server refuses.

use serde_json::json;
use shardwright_e2e::kube_api::text;
use shardwright_e2e::wait::until;
use shardwright_e2e::world::READY_LIMIT;
use shardwright_e2e::{Kind, Result, World};

/// A quota of pods that is too small: the status has the API server's words, and the cluster is formed once there is room.
pub(crate) async fn by_a_quota(world: World) -> Result<()> {
    let quota = json!({
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "few", "namespace": world.namespace},
        "spec": {"hard": {"pods": "5"}},
    });
    world.kube.apply(&quota).await?;
    let spec = json!({"engine": "redis", "image": "redis:7.0.15"});
    let manifest = world.manifest("small", 3, 1, spec);
    world.kube.apply(&manifest).await?;
    let ((), took) = until("the quota is named", READY_LIMIT, || async {
        let object = world
            .kube
            .must(Kind::CLUSTER, &world.namespace, "small")
            .await?;
        let said = text(&object, "/status/message");
        let named = said.contains("FailedCreate") && said.contains("exceeded quota");
        Ok(if named { Ok(()) } else { Err(said.to_owned()) })
    })
    .await?;
    world.took("apply → the quota is named", took, "");
    let more = json!({"spec": {"hard": {"pods": "50"}}});
    world
        .kube
        .patch(Kind::QUOTA, &world.namespace, "few", more)
        .await?;
    world.until_ready("small", READY_LIMIT).await?;
    Ok(())
}
