//! `render`: the objects of a cluster, for those who run no operator.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use anyhow::Context;
use serde_json::json;
use shardwright_manifest::{Accepted, Cluster, Secret};
use shardwright_runtime_kubernetes::objects::{
    BudgetApi, CREATE_JOB_IMAGE, Given, StandaloneError, passwords_to_make, passwords_to_read,
    standalone,
};

use super::up::read_manifest;
use crate::cli::Render;
use crate::exit::{ExitStatus, Refusal, UsageError};
use crate::printer::Printer;
use crate::yaml;

pub(super) fn run(args: &Render, out: &mut Printer) -> anyhow::Result<ExitStatus> {
    let budget = budget(args.kubernetes.as_deref())?;
    let Accepted { cluster, warnings } = Cluster::from_text(&read_manifest(&args.file)?)?;
    for warning in warnings {
        out.warn(&warning.to_string());
    }
    let passwords = Passwords::gather(&cluster, args.secrets.as_deref())?;
    let given = Given {
        owner: None,
        made: &passwords.kept,
        read: &passwords.named,
        budget,
        operator_namespace: None,
        pods_min: 0,
    };
    let image = args.image.as_deref().unwrap_or(CREATE_JOB_IMAGE);
    let documents = standalone(&cluster, &given, image).map_err(|error| match error {
        StandaloneError::NoAppendOnlyFile => anyhow::Error::new(Refusal(error.to_string())),
        StandaloneError::Build(_) => error.into(),
    })?;
    if out.is_json() {
        out.document(&json!({ "apiVersion": "v1", "kind": "List", "items": documents }))?;
    } else {
        out.text(&yaml::documents(&documents)?)?;
    }
    if !passwords.made.is_empty() {
        out.say(&format!(
            "Passwords were made for {}: they are in the first Secret of this output. Keep it: another run makes others.",
            passwords.made.join(", ")
        ));
    }
    Ok(ExitStatus::Success)
}

fn budget(kubernetes: Option<&str>) -> Result<BudgetApi, UsageError> {
    let Some(text) = kubernetes else {
        return Ok(BudgetApi::V1);
    };
    let version = text
        .strip_prefix('v')
        .unwrap_or(text)
        .split_once('.')
        .and_then(|(major, rest)| {
            let minor = rest.split('.').next()?;
            Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
        });
    match version {
        Some(version) => Ok(BudgetApi::of_version(version)),
        None => Err(UsageError(format!(
            "--kubernetes {text}: write a version such as 1.20"
        ))),
    }
}

/// The passwords that go into the output.
#[derive(Default)]
struct Passwords {
    /// Of users whose manifest names no Secret: they go into a Secret of the output.
    kept: BTreeMap<String, Secret>,
    /// Of users whose Secret is there already.
    named: BTreeMap<String, Secret>,
    /// The users whose password was made here.
    made: Vec<String>,
}

impl Passwords {
    fn gather(cluster: &Cluster, dir: Option<&Path>) -> anyhow::Result<Self> {
        let mut passwords = Self::default();
        let mut missing = Vec::new();
        for (user, secret) in passwords_to_read(cluster) {
            let place = Path::new(&secret.name).join(&secret.key);
            match from_dir(dir, &[&place, Path::new(user)])? {
                Some(password) => {
                    passwords.named.insert(user.to_owned(), password);
                }
                None => missing.push(format!("{user} ({})", place.display())),
            }
        }
        if !missing.is_empty() {
            let text = format!(
                "the passwords of these users are in Secrets, which can't be read from here: {}; \
                 give a directory with them: --secrets DIR",
                missing.join(", ")
            );
            return Err(UsageError(text).into());
        }
        for user in passwords_to_make(cluster) {
            let password = if let Some(password) = from_dir(dir, &[Path::new(user)])? {
                password
            } else {
                let mut bytes = [0_u8; 32];
                getrandom::fill(&mut bytes)
                    .map_err(|e| anyhow::anyhow!("no random bytes for a password: {e}"))?;
                passwords.made.push(user.to_owned());
                Secret::from_random(&bytes)
            };
            passwords.kept.insert(user.to_owned(), password);
        }
        Ok(passwords)
    }
}

/// The first of these files that is there, without the line break that an editor leaves at its end.
fn from_dir(dir: Option<&Path>, places: &[&Path]) -> anyhow::Result<Option<Secret>> {
    let Some(dir) = dir else {
        return Ok(None);
    };
    for place in places {
        let path = dir.join(place);
        match fs::read_to_string(&path) {
            Ok(text) => {
                let text = text.strip_suffix('\n').unwrap_or(&text);
                return Ok(Some(Secret::new(text.strip_suffix('\r').unwrap_or(text))));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => {
                return Err(e)
                    .with_context(|| format!("cannot read the password file {}", path.display()));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_of_the_version_that_kubernetes_knows() -> anyhow::Result<()> {
        for (text, api) in [
            (None, BudgetApi::V1),
            (Some("1.20"), BudgetApi::V1Beta1),
            (Some("v1.20.2"), BudgetApi::V1Beta1),
            (Some("1.21"), BudgetApi::V1),
            (Some("1.27"), BudgetApi::V1Unhealthy),
            (Some("2.0"), BudgetApi::V1Unhealthy),
        ] {
            assert_eq!(budget(text)?, api, "{text:?}");
        }
        assert!(budget(Some("new")).is_err());
        Ok(())
    }

    #[test]
    fn passwords_are_given_or_made_and_never_guessed() -> anyhow::Result<()> {
        let text = "apiVersion: shardwright.dev/v1alpha1\nkind: RedisCluster\nmetadata: {name: a}\nspec:\n  users:\n    - {name: app, rules: +get, passwordSecret: {name: s, key: k}}\n    - {name: other, rules: +get}\n";
        let cluster = Cluster::from_text(text)?.cluster;
        assert!(Passwords::gather(&cluster, None).is_err());
        let dir = tempfile::tempdir()?;
        fs::create_dir(dir.path().join("s"))?;
        fs::write(dir.path().join("s/k"), "one\n")?;
        fs::write(dir.path().join("other"), "two")?;
        let passwords = Passwords::gather(&cluster, Some(dir.path()))?;
        assert_eq!(passwords.named["app"], Secret::new("one"));
        assert_eq!(passwords.kept["other"], Secret::new("two"));
        assert_eq!(passwords.made, ["default", "replication", "shardwright"]);
        Ok(())
    }
}
