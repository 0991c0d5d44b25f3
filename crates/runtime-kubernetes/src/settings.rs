//! The running servers are asked whether they know the settings of the manifest, before any file with these is written:
//! all pods mount the same file, and one that starts again with a setting that it does not know ends at once.

use std::fmt;
use std::net::IpAddr;

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use shardwright_engine::{Access, Client, Endpoint, Error};
use shardwright_manifest::Cluster;

use crate::apply::{Applier, ApplyError};
use crate::facts::Container;
use crate::names::{CLIENT_PORT, CONFIG_FILE};
use crate::request::ask;

/// Settings that a running server does not know.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub struct UnknownSettings {
    /// Their names, in the order of the manifest's.
    pub names: Vec<String>,
    /// The pod of the server.
    pub pod: String,
    /// Which engine and version it is.
    pub server: String,
}

impl fmt::Display for UnknownSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { names, pod, server } = self;
        let names: Vec<String> = names.iter().map(|n| format!("spec.config.{n}")).collect();
        write!(
            f,
            "{pod} ({server}) does not know {}, and would not start again with it; correct the name, or take it out",
            names.join(", ")
        )
    }
}

/// What one server said.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Answer {
    /// It knows all that it was asked for.
    Knows,
    /// It does not.
    Lacks(UnknownSettings),
}

impl Applier {
    /// The settings that a running server does not know, of those whose names no server was asked for yet. Where none
    /// answers nothing is known against them.
    pub(crate) async fn unknown_settings(
        &mut self,
        cluster: &Cluster,
        access: &Access,
    ) -> Option<UnknownSettings> {
        let settings = cluster.config().keys();
        let new = settings.filter(|name| !self.known_settings.contains(*name));
        let new: Vec<&str> = new.map(String::as_str).collect();
        if new.is_empty() {
            return None;
        }
        let pods = self.world.pods(&self.key);
        let running = pods
            .iter()
            .filter(|pod| !pod.over && matches!(pod.container, Container::Running { .. }));
        let asked = running.filter_map(|pod| Some(ask_server(&pod.name, pod.ip?, access, &new)));
        let answers: Vec<Answer> = join_all(asked).await.into_iter().flatten().collect();
        let answered = !answers.is_empty();
        let unknown = first_lack(answers);
        if answered && unknown.is_none() {
            let known = new.into_iter().map(str::to_owned);
            self.known_settings.extend(known);
        }
        unknown
    }

    /// Whether these settings stand in the file that the pods mount already: then nothing becomes worse by what is written,
    /// and what runs has to be looked after all the same.
    pub(crate) async fn stand_in_file(&self, names: &[String]) -> Result<bool, ApplyError> {
        let name = self.names.config_map();
        let client = self.world.client().clone();
        let api = Api::<ConfigMap>::namespaced(client, self.names.namespace());
        let there = ask(|| format!("read the ConfigMap {name}"), api.get_opt(&name)).await?;
        let file = there.and_then(|there| there.data?.remove(CONFIG_FILE));
        Ok(file.is_some_and(|file| give_all(&file, names)))
    }
}

/// Whether a configuration file gives all settings of these names.
fn give_all(file: &str, names: &[String]) -> bool {
    let given = |name: &String| {
        let mut keys = file.lines().filter_map(|line| line.split_once(' '));
        keys.any(|(key, _)| key == name)
    };
    names.iter().all(given)
}

/// Of several servers that lack something, the first by its pod's name.
fn first_lack(answers: Vec<Answer>) -> Option<UnknownSettings> {
    let lacks = answers.into_iter().filter_map(|answer| match answer {
        Answer::Lacks(unknown) => Some(unknown),
        Answer::Knows => None,
    });
    lacks.min_by(|a, b| a.pod.cmp(&b.pod))
}

/// Asks one server; `None` where it does not answer.
async fn ask_server(pod: &str, ip: IpAddr, access: &Access, names: &[&str]) -> Option<Answer> {
    match told_by(pod, ip, access, names).await {
        Ok(answer) => Some(answer),
        Err(error) => {
            tracing::debug!(pod, %error, "not asked for its settings");
            None
        }
    }
}

async fn told_by(pod: &str, ip: IpAddr, access: &Access, names: &[&str]) -> Result<Answer, Error> {
    let endpoint = Endpoint::new(ip.to_string(), CLIENT_PORT);
    let client = Client::connect(&endpoint, access).await?;
    let unknown = client.unknown_settings(names).await?;
    if unknown.is_empty() {
        return Ok(Answer::Knows);
    }
    let is = client.capabilities().await?;
    Ok(Answer::Lacks(UnknownSettings {
        names: unknown,
        pod: pod.to_owned(),
        server: format!("{} {}", is.engine, is.version),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lacks(pod: &str, name: &str) -> Answer {
        Answer::Lacks(UnknownSettings {
            names: vec![name.to_owned()],
            pod: pod.to_owned(),
            server: "Redis 7.0.15".to_owned(),
        })
    }

    #[test]
    fn what_stands_in_the_file_already_is_found() {
        let file = "# hz of this node\nhz 20\nmaxmemroy 100mb\n";
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert!(give_all(file, &names(&["maxmemroy"])));
        assert!(give_all(file, &names(&["maxmemroy", "hz"])));
        assert!(!give_all(file, &names(&["maxmemroy", "of"])));
        assert!(!give_all("", &names(&["hz"])));
    }

    #[test]
    fn one_server_that_lacks_a_setting_is_enough() {
        assert_eq!(first_lack(vec![]), None);
        assert_eq!(first_lack(vec![Answer::Knows, Answer::Knows]), None);
        let answers = vec![lacks("redis-3", "b"), Answer::Knows, lacks("redis-1", "a")];
        let unknown = first_lack(answers).expect("two lack something");
        assert_eq!(
            unknown.to_string(),
            "redis-1 (Redis 7.0.15) does not know spec.config.a, and would not start again with it; \
             correct the name, or take it out"
        );
    }
}
