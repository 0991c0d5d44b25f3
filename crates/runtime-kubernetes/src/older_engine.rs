//! An image whose server could not read what the servers wrote: of the other engine, or an older one. A pod that restarts
//! with it would not come back with its data. The definition's rules see only what the manifest says by `engine` and
//! `version`; here the images count.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Container, Pod, PodTemplateSpec};
use kube::Api;
use kube::api::ListParams;
use shardwright_topology::{EngineKind, Version, reads};

use crate::apply::Applier;
use crate::names;
use crate::request::{RequestError, ask};

impl Applier {
    /// Leaves the image and the command of the servers as they are, where the wanted image reads nothing of what those that
    /// serve wrote. Then says why. Where no pod is ready nothing is known, and nothing is kept.
    pub(crate) async fn keep_engine(
        &self,
        live: &StatefulSet,
        wanted: &mut StatefulSet,
    ) -> Result<Option<String>, RequestError> {
        if image(&live.spec.template) == image(&wanted.spec.template) {
            return Ok(None);
        }
        let pods = Api::<Pod>::namespaced(self.world.client().clone(), self.names.namespace());
        let ours =
            ListParams::default().labels(&format!("{}={}", names::INSTANCE_LABEL, self.key.name));
        let what = || format!("look at the pods of {}", self.key);
        let pods = ask(what, pods.list(&ours)).await?.items;
        let running: Vec<&str> = pods.iter().filter_map(image_of_ready).collect();
        let why = image(&wanted.spec.template).and_then(|image| unreadable(image, &running));
        if why.is_some() {
            keep(&live.spec.template, &mut wanted.spec.template);
        }
        Ok(why)
    }
}

/// Why a server of this image could not read what those of the others wrote, if so.
fn unreadable(wanted: &str, running: &[&str]) -> Option<String> {
    let reader = engine_of(wanted, u16::MAX)?;
    let named = |(kind, Version { major, .. }): (EngineKind, Version)| format!("{kind} {major}");
    running.iter().find_map(|image| {
        let writer = engine_of(image, 0)?;
        (!reads(reader, writer)).then(|| {
            format!(
                "the servers keep their image {image}: {} ({wanted}) does not read what {} wrote; write the image, engine and version of before, or make another cluster and move the data",
                named(reader),
                named(writer)
            )
        })
    })
}

/// The engine and version of an image by its name, as in `docker.io/valkey/valkey:9.1-alpine`. None where the name does not
/// tell. What the tag leaves out of the version counts as `left_out`.
fn engine_of(image: &str, left_out: u16) -> Option<(EngineKind, Version)> {
    let (name, _) = image.split_once('@').unwrap_or((image, ""));
    let (_, last) = name.rsplit_once('/').unwrap_or(("", name));
    let (repository, tag) = last.split_once(':')?;
    let kind = if repository.contains("valkey") {
        EngineKind::Valkey
    } else if repository.contains("redis") {
        EngineKind::Redis
    } else {
        return None;
    };
    let tag = tag.strip_prefix('v').unwrap_or(tag);
    let end = tag.find(|c: char| !c.is_ascii_digit() && c != '.');
    let mut numbers = tag[..end.unwrap_or(tag.len())]
        .split('.')
        .map(str::parse::<u16>);
    let major = numbers.next()?.ok()?;
    let mut further = || match numbers.next() {
        Some(Ok(number)) => number,
        Some(Err(_)) | None => left_out,
    };
    let (minor, patch) = (further(), further());
    let version = Version {
        major,
        minor,
        patch,
    };
    Some((kind, version))
}

fn server(template: &PodTemplateSpec) -> Option<&Container> {
    let containers = &template.spec.as_ref()?.containers;
    containers
        .iter()
        .find(|c| c.name == names::SERVER_CONTAINER)
}

fn image(template: &PodTemplateSpec) -> Option<&str> {
    server(template)?.image.as_deref()
}

/// The image of the server in a pod that is ready.
fn image_of_ready(pod: &Pod) -> Option<&str> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions
        .iter()
        .any(|c| c.type_ == "Ready" && c.status == "True");
    let mut containers = pod.spec.as_ref()?.containers.iter();
    let server = containers.find(|c| c.name == names::SERVER_CONTAINER)?;
    server.image.as_deref().filter(|_| ready)
}

/// Puts the live server's image, and the command and the label of the version that go with it, in place of the wanted
/// one's.
fn keep(live: &PodTemplateSpec, wanted: &mut PodTemplateSpec) {
    let label = |template: &PodTemplateSpec| {
        let labels = template.metadata.as_ref()?.labels.as_ref()?;
        labels.get(names::VERSION_LABEL).cloned()
    };
    let version = label(live);
    if version != label(wanted) {
        let metadata = wanted.metadata.get_or_insert_default();
        let labels = metadata.labels.get_or_insert_default();
        match version {
            Some(version) => labels.insert(names::VERSION_LABEL.to_owned(), version),
            None => labels.remove(names::VERSION_LABEL),
        };
    }
    let (Some(live), Some(spec)) = (server(live), wanted.spec.as_mut()) else {
        return;
    };
    let mut containers = spec.containers.iter_mut();
    if let Some(server) = containers.find(|c| c.name == names::SERVER_CONTAINER) {
        server.image.clone_from(&live.image);
        server.command.clone_from(&live.command);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const VALKEY: &str = "docker.io/valkey/valkey:9.1-alpine";

    #[test]
    fn the_name_of_an_image_tells_the_engine_and_the_version() {
        let version = |major, minor, patch| Version {
            major,
            minor,
            patch,
        };
        for (image, wanted) in [
            (VALKEY, Some((EngineKind::Valkey, version(9, 1, 0)))),
            ("redis:7.0.15", Some((EngineKind::Redis, version(7, 0, 15)))),
            (
                "example.com:5000/mirror/redis:v7@sha256:ab",
                Some((EngineKind::Redis, version(7, 0, 0))),
            ),
            ("valkey/valkey", None),
            ("redis:latest", None),
            ("example.com:5000/cache", None),
            ("example.com/cache:7.0", None),
        ] {
            assert_eq!(engine_of(image, 0), wanted, "{image}");
        }
    }

    #[test]
    fn what_does_not_read_the_data_is_not_put_into_pods() {
        for (wanted, running) in [
            ("redis:7.4", VALKEY),
            ("redis:8", VALKEY),
            ("valkey/valkey:8.0", VALKEY),
            ("redis:7.0.15", "redis:7.4-alpine"),
        ] {
            let why = unreadable(wanted, &[running]).expect(wanted);
            assert!(why.contains(wanted) && why.contains(running), "{why}");
        }
        for (wanted, running) in [
            (VALKEY, VALKEY),
            (VALKEY, "valkey/valkey:8.0"),
            ("valkey/valkey:9.0", VALKEY),
            ("redis:7", "redis:7.4-alpine"),
            (VALKEY, "redis:7.0.15"),
            ("example.com/cache:1", VALKEY),
            ("redis:7.4", "example.com/cache:1"),
        ] {
            assert_eq!(unreadable(wanted, &[running]), None, "{wanted}");
        }
        // Back from an image that no pod ever ran.
        assert_eq!(unreadable(VALKEY, &[]), None);
    }

    #[test]
    fn the_image_and_its_command_stay_and_nothing_else() {
        let template = |image: &str, command: &str, memory: &str| -> PodTemplateSpec {
            serde_json::from_value(json!({"spec": {"containers": [
                {"name": "sidecar", "image": image},
                {
                    "name": names::SERVER_CONTAINER, "image": image, "command": [command],
                    "resources": {"requests": {"memory": memory}},
                },
            ]}}))
            .expect("a template")
        };
        let live = template("valkey:9.1", "valkey-server", "1Gi");
        let mut wanted = template("redis:7.4", "redis-server", "2Gi");
        keep(&live, &mut wanted);
        let mut kept = template("redis:7.4", "valkey-server", "2Gi");
        let containers = &mut kept.spec.as_mut().expect("a pod").containers;
        containers[1].image = Some("valkey:9.1".to_owned());
        assert_eq!(wanted, kept);
    }

    #[test]
    fn the_label_of_the_version_stays_with_the_image() {
        let template = |labels: serde_json::Value| -> PodTemplateSpec {
            serde_json::from_value(json!({"metadata": {"labels": labels}})).expect("a template")
        };
        let version = |version: &str| template(json!({"a": "b", (names::VERSION_LABEL): version}));
        let none = || template(json!({"a": "b"}));
        for (live, mut wanted) in [
            (version("9.1"), version("7.4")),
            (version("9.1"), none()),
            (none(), version("7.4")),
        ] {
            keep(&live, &mut wanted);
            assert_eq!(wanted, live);
        }
    }

    #[test]
    fn only_a_pod_that_is_ready_says_what_runs() {
        let pod = |ready: &str| -> Pod {
            serde_json::from_value(json!({
                "spec": {"containers": [{"name": names::SERVER_CONTAINER, "image": VALKEY}]},
                "status": {"conditions": [{"type": "Ready", "status": ready}]},
            }))
            .expect("a pod")
        };
        assert_eq!(image_of_ready(&pod("True")), Some(VALKEY));
        assert_eq!(image_of_ready(&pod("False")), None);
    }
}
