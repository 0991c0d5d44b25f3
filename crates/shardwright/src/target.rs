//! Which cluster is meant.

use std::path::PathBuf;
use std::str::FromStr;

use shardwright_engine::Endpoint;
use shardwright_planner::ProblemKind;
use shardwright_runtime_kubernetes::ObjectKey;
use shardwright_runtime_local as local;

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
        let wrong = |_| {
            UsageError(format!(
                "{text:?} is no target; write HOST:PORT of a member, local, local:NAME, or k8s:NAMESPACE/NAME"
            ))
        };
        text.parse().map(Self::Member).map_err(wrong)
    }
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
    kubernetes: bool,
}

impl Called {
    /// As it was called now.
    pub(crate) fn of(target: &Target, text: &str, login: &Login) -> Self {
        let (program, target, kubernetes) = match target {
            Target::Kubernetes(key) if login.kube.plugin => {
                let target = format!("{} -n {}", key.name, key.namespace);
                ("kubectl shardwright", target, true)
            }
            Target::Kubernetes(_) => ("shardwright", text.to_owned(), true),
            Target::Member(_) | Target::Local(_) => ("shardwright", text.to_owned(), false),
        };
        Self {
            program,
            target,
            kubernetes,
        }
    }

    /// A command line.
    pub(crate) fn command(&self, verb: &str) -> String {
        format!("{} {verb} {}", self.program, self.target)
    }

    /// What to do about a problem.
    pub(crate) fn mend(&self, kind: &ProblemKind) -> String {
        let by_operator = matches!(
            kind,
            ProblemKind::NoReplica { .. }
                | ProblemKind::EmptyPrimary { .. }
                | ProblemKind::Lost { .. }
        );
        if self.kubernetes && by_operator {
            return format!(
                "its operator mends it once there are pods: {}",
                self.command("plan")
            );
        }
        let mend = kind.mend(&self.target);
        mend.replace("shardwright ", &format!("{} ", self.program))
    }
}

/// The directory of a local cluster: the one named, else the only one there is.
pub(crate) fn local_dir(name: Option<&str>, dir: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    if let Some(dir) = dir {
        return Ok(std::path::absolute(dir)?);
    }
    let root = local::root()?;
    if let Some(name) = name {
        return Ok(root.join(name));
    }
    let mut names = local::clusters(&root)?;
    match names.len() {
        0 => Err(local::StateError::NoCluster { dir: root }.into()),
        1 => Ok(root.join(names.remove(0))),
        _ => Err(UsageError(format!(
            "there are several local clusters; name one: local:{}",
            names.join(", local:")
        ))
        .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::Target;

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
        for wrong in [
            "",
            "local:",
            "local:../x",
            "host",
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
