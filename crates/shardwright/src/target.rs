//! Which cluster is meant.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use shardwright_engine::Endpoint;
use shardwright_planner::{FunctionsDiffer, ProblemKind};
use shardwright_runtime_kubernetes::ObjectKey;
use shardwright_runtime_local as local;
use shardwright_topology::NoWrites;

use crate::cli::Login;
use crate::exit::UsageError;

/// Which cluster is meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Target {
    /// Any cluster, by the address of a member.
    Member(Endpoint),
    /// One of this machine.
    Local(Option<String>),
    /// One that an operator keeps on Kubernetes, by the namespace and name of its object.
    Kubernetes(ObjectKey),
}

impl FromStr for Target {
    type Err = UsageError;

    fn from_str(text: &str) -> Result<Self, UsageError> {
        if text == "local" {
            return Ok(Self::Local(None));
        }
        if let Some(name) = text.strip_prefix("local:") {
            return if name.is_empty() || name.contains(['/', '.']) {
                Err(UsageError(format!(
                    "{text:?} names no local cluster; write local:NAME"
                )))
            } else {
                Ok(Self::Local(Some(name.to_owned())))
            };
        }
        if let Some(place) = text.strip_prefix("k8s:") {
            return match place.split_once('/') {
                Some((namespace, name)) if is_label(namespace) && is_label(name) => {
                    Ok(Self::Kubernetes(ObjectKey::new(namespace, name)))
                }
                Some(_) | None => Err(UsageError(format!(
                    "{text:?} names no cluster on Kubernetes; write k8s:NAMESPACE/NAME"
                ))),
            };
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            return of_url(scheme, rest);
        }
        if is_label(text) {
            return Ok(Self::Local(Some(text.to_owned())));
        }
        let wrong = |_| {
            UsageError(format!(
                "{text:?} is no target; write HOST:PORT of a member, local, local:NAME, or k8s:NAMESPACE/NAME"
            ))
        };
        text.parse().map(Self::Member).map_err(wrong)
    }
}

/// A member by its URL, as clients take it: `redis://HOST:PORT` (IANA's provisional scheme `redis`; the port is 6379
/// where none is given). A password in arguments can be read by everyone on the machine, so it is refused.
fn of_url(scheme: &str, rest: &str) -> Result<Target, UsageError> {
    let place = rest.split(['/', '?']).next().unwrap_or(rest);
    match scheme {
        "redis" | "valkey" => {}
        "rediss" | "valkeys" => {
            return Err(UsageError(format!(
                "{scheme}:// means TLS; write redis://{place} --tls"
            )));
        }
        other => {
            return Err(UsageError(format!(
                "{other}:// is no scheme of Redis or Valkey; write redis://HOST:PORT"
            )));
        }
    }
    if let Some((_, place)) = place.rsplit_once('@') {
        return Err(UsageError(format!(
            "a user or password in the URL can be read by everyone on this machine; write redis://{place} \
             --user NAME, and give the password by --password-file FILE, --askpass or SHARDWRIGHT_PASSWORD"
        )));
    }
    let endpoint = place.parse().or_else(|_| format!("{place}:6379").parse());
    let wrong = |_| {
        UsageError(format!(
            "{scheme}://{rest} names no server; write {scheme}://HOST:PORT"
        ))
    };
    endpoint.map(Target::Member).map_err(wrong)
}

/// Whether Kubernetes could call a namespace or one of our objects so: a label of DNS.
fn is_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let ends_well = !text.starts_with('-') && !text.ends_with('-');
    !text.is_empty() && text.len() <= 63 && text.chars().all(inner) && ends_well
}

/// What to do instead of a verb that has no place on Kubernetes, where the object says what there is to be.
pub(crate) fn not_on_kubernetes(key: &ObjectKey, verb: &str, what: &str) -> anyhow::Error {
    let ObjectKey { namespace, name } = key;
    let text = format!(
        "k8s:{key} is kept by its operator as its object says; instead{what}: kubectl {verb} rediscluster {name} -n {namespace}"
    );
    UsageError(text).into()
}

/// How a cluster is named on the command line that a person types next.
#[derive(Debug)]
pub(crate) struct Called {
    program: &'static str,
    target: String,
    kept_by: KeptBy,
    up: Option<String>,
}

/// Who keeps a cluster's nodes as they are to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum KeptBy {
    /// Its operator.
    Operator,
    /// `up` and `fix`, by its manifest.
    Manifest,
    /// Whoever started its servers.
    People,
}

impl Called {
    /// As it was called now.
    pub(crate) fn of(target_of: &Target, text: &str, dir: Option<&Path>, login: &Login) -> Self {
        let ours = "shardwright";
        let (program, target, kept_by) = match (target_of, dir) {
            (Target::Kubernetes(key), _) if login.kube.plugin => {
                let target = format!("{} -n {}", key.name, key.namespace);
                ("kubectl shardwright", target, KeptBy::Operator)
            }
            (Target::Kubernetes(_), _) => (ours, text.to_owned(), KeptBy::Operator),
            (Target::Local(_), Some(dir)) => {
                let target = format!("{text} --dir {}", quoted(dir));
                (ours, target, KeptBy::Manifest)
            }
            (Target::Local(_), None) => (ours, text.to_owned(), KeptBy::Manifest),
            (Target::Member(_), _) => (ours, text.to_owned(), KeptBy::People),
        };
        let up = match target_of {
            Target::Local(name) => {
                let name = name.as_ref().map(|name| format!(" --name {name}"));
                let dir = dir.map(|dir| format!(" --dir {}", quoted(dir)));
                let options = [name, dir].into_iter().flatten().collect::<String>();
                Some(format!("{program} up{options}"))
            }
            Target::Member(_) | Target::Kubernetes(_) => None,
        };
        Self {
            program,
            target,
            kept_by,
            up,
        }
    }

    /// A cluster of this machine, as another run was called for it.
    pub(crate) fn local(text: &str, dir: Option<&Path>) -> Self {
        let name = text
            .strip_prefix("local:")
            .or((text != "local").then_some(text));
        let dir = dir.map(|dir| format!(" --dir {}", quoted(dir)));
        let options = [name.map(|name| format!(" --name {name}")), dir.clone()];
        let options = options.into_iter().flatten().collect::<String>();
        Self {
            program: "shardwright",
            target: [Some(text.to_owned()), dir].into_iter().flatten().collect(),
            kept_by: KeptBy::Manifest,
            up: Some(format!("shardwright up{options}")),
        }
    }

    /// The command that starts a cluster of this machine.
    pub(crate) fn up(&self) -> Option<String> {
        self.up.clone()
    }

    /// A command line.
    pub(crate) fn command(&self, verb: &str) -> String {
        format!("{} {verb} {}", self.program, self.target)
    }

    /// What to do about a problem.
    pub(crate) fn mend(&self, kind: &ProblemKind) -> String {
        // These take servers, which come by the manifest.
        let by_manifest = matches!(
            kind,
            ProblemKind::NoReplica { .. }
                | ProblemKind::EmptyPrimary { .. }
                | ProblemKind::UnevenReplicas { .. }
                | ProblemKind::Lost { .. }
                | ProblemKind::IdLost { replica: None, .. }
        );
        let declared = matches!(self.kept_by, KeptBy::Operator | KeptBy::Manifest);
        match kind.no_writes().filter(|_| declared) {
            Some(NoWrites::Memory) => {
                return format!(
                    "delete keys, or add shards: {} --shards N",
                    self.command("scale")
                );
            }
            // A bare redis-cli has no password for these.
            Some(NoWrites::Snapshot) => {
                let then = match self.kept_by {
                    KeptBy::Operator => "a snapshot that succeeds ends it".to_owned(),
                    KeptBy::Manifest | KeptBy::People => {
                        format!("then: {} BGSAVE", self.command("call --primaries"))
                    }
                };
                return format!("make room on its disk (its log says more): {then}");
            }
            Some(NoWrites::Replicas { .. }) => {
                return "bring its replicas back (see what else is said of them), or ask for fewer in its manifest: \
                        min-replicas-to-write in spec.config"
                    .to_owned();
            }
            Some(NoWrites::Log) | None => {}
        }
        if declared && let ProblemKind::FunctionsDiffer(FunctionsDiffer { library, .. }) = kind {
            let load = "FUNCTION LOAD REPLACE";
            return match self.kept_by {
                KeptBy::Operator => {
                    format!("load the same code of {library} at each primary: {load} CODE")
                }
                KeptBy::Manifest | KeptBy::People => format!(
                    "load the same code at all primaries: {} {load} \"$(cat {library}.lua)\"",
                    self.command("call --primaries")
                ),
            };
        }
        match self.kept_by {
            KeptBy::Operator if by_manifest => {
                return format!(
                    "its operator mends it once there are pods: {}",
                    self.command("plan")
                );
            }
            KeptBy::Manifest if by_manifest => return self.command("fix"),
            KeptBy::Operator | KeptBy::Manifest | KeptBy::People => {}
        }
        let mend = kind.mend(&self.target);
        mend.replace("shardwright ", &format!("{} ", self.program))
    }
}

/// A path as a shell takes it for one word.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:,".contains(c);
    if text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// The directory of a local cluster: the one named, else the only one there is.
pub(crate) fn local_dir(name: Option<&str>, dir: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    if let Some(dir) = dir {
        return Ok(std::path::absolute(dir)?);
    }
    let root = local::root()?;
    let names = local::clusters(&root)?;
    match (name, names.as_slice()) {
        (Some(name), names) if names.iter().any(|n| n == name) => Ok(root.join(name)),
        (Some(name), [_, ..]) => Err(UsageError(format!(
            "there is no local cluster {name:?}; there are: {}. A server is named with its port: HOST:PORT",
            names.join(", ")
        ))
        .into()),
        (Some(name), []) => Err(local::StateError::NoCluster { dir: root.join(name) }.into()),
        (None, []) => Err(local::StateError::NoCluster { dir: root }.into()),
        (None, [only]) => Ok(root.join(only)),
        (None, _) => Err(several(&names)),
    }
}

/// The cluster of this machine that `up` brings back when none is named: the only one there is.
pub(crate) fn only_local(root: &Path) -> anyhow::Result<Option<String>> {
    let mut names = local::clusters(root)?;
    match names.len() {
        0 => Ok(None),
        1 => Ok(Some(names.remove(0))),
        _ => Err(several(&names)),
    }
}

fn several(names: &[String]) -> anyhow::Error {
    let text = format!(
        "there are several local clusters; name one of: {}",
        names.join(", ")
    );
    UsageError(text).into()
}

#[cfg(test)]
mod tests {
    use super::{Target, quoted};

    #[test]
    fn a_directory_is_one_word_for_a_shell() {
        let said = |path: &str| quoted(std::path::Path::new(path));
        assert_eq!(said("/tmp/c-1"), "/tmp/c-1");
        assert_eq!(said("/tmp/my c"), "'/tmp/my c'");
        assert_eq!(said("/tmp/it's"), "'/tmp/it'\\''s'");
    }

    #[test]
    fn targets_are_told_apart() {
        assert_eq!(
            "local".parse::<Target>().expect("it is one"),
            Target::Local(None)
        );
        assert_eq!(
            "local:a".parse::<Target>().expect("it is one"),
            Target::Local(Some("a".to_owned()))
        );
        assert!(matches!("h:1".parse::<Target>(), Ok(Target::Member(_))));
        assert!(matches!(
            "[::1]:7000".parse::<Target>(),
            Ok(Target::Member(_))
        ));
        let place = shardwright_runtime_kubernetes::ObjectKey::new("cache", "redis");
        assert_eq!(
            "k8s:cache/redis".parse::<Target>().expect("it is one"),
            Target::Kubernetes(place)
        );
        assert_eq!(
            "cache"
                .parse::<Target>()
                .expect("a bare name is a local cluster"),
            Target::Local(Some("cache".to_owned()))
        );
        let member = Target::Member(shardwright_engine::Endpoint::new("10.0.0.1", 7000));
        for url in ["redis://10.0.0.1:7000", "valkey://10.0.0.1:7000/0"] {
            assert_eq!(url.parse::<Target>().expect("it is one"), member);
        }
        for wrong in [
            "",
            "local:",
            "local:../x",
            "Host.example",
            "rediss://10.0.0.1:7000",
            "redis://worker:secret@10.0.0.1:7000",
            "redis://",
            "http://10.0.0.1:7000",
            "host:99999",
            "k8s:",
            "k8s:redis",
            "k8s:/redis",
            "k8s:cache/",
            "k8s:a/b/c",
            "k8s:Cache/redis",
        ] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }
}
