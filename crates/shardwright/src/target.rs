//! Which cluster is meant.

use std::path::PathBuf;
use std::str::FromStr;

use shardwright_engine::Endpoint;
use shardwright_runtime_local as local;

use crate::exit::UsageError;

/// Which cluster is meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Target {
    /// Any cluster, by the address of a member.
    Member(Endpoint),
    /// One of this machine.
    Local(Option<String>),
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
        if text.starts_with("k8s:") {
            return Err(UsageError(format!(
                "{text:?}: clusters on Kubernetes are not supported yet"
            )));
        }
        let wrong = |_| {
            UsageError(format!(
                "{text:?} is no target; write HOST:PORT of a member, local, or local:NAME"
            ))
        };
        text.parse().map(Self::Member).map_err(wrong)
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
        for wrong in ["", "local:", "local:../x", "host", "k8s:a/b", "host:99999"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }
}
