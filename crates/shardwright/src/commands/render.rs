//! `render`: the objects of a cluster, for those who run no operator.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::json;
use shardwright_manifest::{Accepted, Cluster, Secret};
use shardwright_runtime_kubernetes::names::Names;
use shardwright_runtime_kubernetes::objects::{
    BudgetApi, CREATE_JOB_IMAGE, Given, StandaloneError, passwords_to_make, passwords_to_read,
    standalone,
};

use super::up::read_manifest;
use crate::cli::{KubeArgs, Login, Render};
use crate::exit::{ExitStatus, Refusal, UsageError};
use crate::kubernetes;
use crate::printer::Printer;
use crate::yaml;

pub(super) async fn run(
    args: &Render,
    login: &Login,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let declared = args.kubernetes.as_deref().map(budget).transpose()?;
    let Accepted { cluster, warnings } = Cluster::from_text(&read_manifest(&args.file)?)?;
    for warning in warnings {
        out.warn(&warning.to_string());
    }
    let passwords = Passwords::gather(&cluster, args.secrets.as_deref(), args.make_passwords)?;
    let budget = match declared {
        Some(budget) => budget,
        None => budget_of_server(&login.kube, out).await?,
    };
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
    // Before anything is printed: what was applied and is kept nowhere is lost.
    if let Some(dir) = &args.secrets {
        passwords.keep(dir)?;
    }
    if out.is_json() {
        out.document(&json!({ "apiVersion": "v1", "kind": "List", "items": documents }))?;
    } else {
        out.text(&yaml::documents(&documents)?)?;
    }
    if let (false, Some(dir)) = (passwords.made.is_empty(), &args.secrets) {
        out.say(&format!(
            "Passwords were made for {}, and are kept in {}: another run takes them from there.",
            passwords.made.join(", "),
            dir.display()
        ));
    }
    Ok(ExitStatus::Success)
}

/// The budgets of the Kubernetes that kubectl would apply the output to. Where none is known here, or it does not answer,
/// those of every version since 1.21.
async fn budget_of_server(args: &KubeArgs, out: &mut Printer) -> anyhow::Result<BudgetApi> {
    match kubernetes::server_version(args).await {
        Ok(Some((major, minor))) => {
            out.say(&format!(
                "For Kubernetes {major}.{minor}, as the API server says; for another: --kubernetes VERSION"
            ));
            Ok(BudgetApi::of_version((major, minor)))
        }
        Ok(None) => Ok(BudgetApi::V1),
        // It was named, and is not there.
        Err(error) if args.context.is_some() || args.kubeconfig.is_some() => Err(error),
        Err(error) => {
            out.warn(&format!(
                "for Kubernetes 1.21 or later: which it is was not told ({error:#}); for another: --kubernetes VERSION"
            ));
            Ok(BudgetApi::V1)
        }
    }
}

fn budget(text: &str) -> Result<BudgetApi, UsageError> {
    Ok(BudgetApi::of_version(kubernetes::parse_version(text)?))
}

/// The directory of the passwords, and the files in it, are their owner's only.
const PRIVATE_DIR: u32 = 0o700;
const PRIVATE_FILE: u32 = 0o600;

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
    /// Reads every password from `dir`. What is missing there is made where `make` says so, to be kept by
    /// [`Passwords::keep`], and is an error else: the output is applied again, and with other passwords than its servers
    /// have nobody could log in.
    fn gather(cluster: &Cluster, dir: Option<&Path>, make: bool) -> anyhow::Result<Self> {
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
        let mut to_make = Vec::new();
        for user in passwords_to_make(cluster) {
            match from_dir(dir, &[Path::new(user)])? {
                Some(password) => {
                    passwords.kept.insert(user.to_owned(), password);
                }
                None => to_make.push(user),
            }
        }
        if to_make.is_empty() {
            return Ok(passwords);
        }
        if dir.is_none() || !make {
            return Err(UsageError(not_given(cluster, dir, &to_make)).into());
        }
        for user in to_make {
            let mut bytes = [0_u8; 32];
            getrandom::fill(&mut bytes)
                .map_err(|e| anyhow::anyhow!("no random bytes for a password: {e}"))?;
            passwords.made.push(user.to_owned());
            let password = Secret::from_random(&bytes);
            passwords.kept.insert(user.to_owned(), password);
        }
        Ok(passwords)
    }

    /// Writes what was made into `dir`, a file for each user.
    fn keep(&self, dir: &Path) -> anyhow::Result<()> {
        for (user, password) in &self.kept {
            if self.made.contains(user) {
                keep(dir, user, password)?;
            }
        }
        Ok(())
    }
}

/// Why nothing is printed without these users' passwords, and where to have them from.
fn not_given(cluster: &Cluster, dir: Option<&Path>, users: &[&str]) -> String {
    let names = Names::of(cluster);
    let place = dir.map_or_else(|| PathBuf::from("passwords"), Path::to_path_buf);
    let (namespace, secret, dir) = (names.namespace(), names.passwords_secret(), place.display());
    let user = users.first().copied().unwrap_or("USER");
    let users = users.join(", ");
    format!(
        "the passwords of these users are not given: {users}; for a new cluster have them made once, and kept: \
         --secrets {dir} --make-passwords; for one that runs, put the passwords that its servers have into that \
         directory, a file for each user: (umask 077; mkdir -p {dir}; kubectl get secret -n {namespace} {secret} -o \
         go-template='{{{{index .data \"{user}\" | base64decode}}}}' > {dir}/{user})"
    )
}

/// Writes a password into a new file. What is there is never overwritten.
///
/// # Errors
/// Where the directory or the file can't be written, and where there is such a file meanwhile.
fn keep(dir: &Path, user: &str, password: &Secret) -> anyhow::Result<()> {
    let path = dir.join(user);
    let failed = || format!("cannot keep the password of {user} in {}", path.display());
    fs::DirBuilder::new()
        .recursive(true)
        .mode(PRIVATE_DIR)
        .create(dir)
        .with_context(failed)?;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(PRIVATE_FILE)
        .open(&path)
        .with_context(failed)?;
    file.write_all(password.expose().as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(failed)
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
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn budgets_are_of_the_version_that_kubernetes_knows() -> anyhow::Result<()> {
        for (text, api) in [
            ("1.20", BudgetApi::V1Beta1),
            ("v1.20.2", BudgetApi::V1Beta1),
            ("1.21", BudgetApi::V1),
            ("1.27", BudgetApi::V1Unhealthy),
            ("2.0", BudgetApi::V1Unhealthy),
        ] {
            assert_eq!(budget(text)?, api, "{text:?}");
        }
        assert!(budget("new").is_err());
        Ok(())
    }

    const TWO_USERS: &str = "apiVersion: shardwright.dev/v1alpha1\nkind: RedisCluster\nmetadata: {name: a}\nspec:\n  users:\n    - {name: app, rules: +get, passwordSecret: {name: s, key: k}}\n    - {name: other, rules: +get}\n";

    #[test]
    fn passwords_are_given_or_made_and_never_guessed() -> anyhow::Result<()> {
        let cluster = Cluster::from_text(TWO_USERS)?.cluster;
        assert!(Passwords::gather(&cluster, None, false).is_err());
        let dir = tempfile::tempdir()?;
        fs::create_dir(dir.path().join("s"))?;
        fs::write(dir.path().join("s/k"), "one\n")?;
        fs::write(dir.path().join("other"), "two")?;
        let passwords = Passwords::gather(&cluster, Some(dir.path()), true)?;
        assert_eq!(passwords.named["app"], Secret::new("one"));
        assert_eq!(passwords.kept["other"], Secret::new("two"));
        assert_eq!(passwords.made, ["default", "replication", "shardwright"]);
        Ok(())
    }

    /// The output is applied again: with other passwords nobody could log in at the servers that run.
    #[test]
    fn a_second_run_has_the_passwords_of_the_first_or_ends() -> anyhow::Result<()> {
        let cluster =
            Cluster::from_text(include_str!("../../../../examples/minimal.yaml"))?.cluster;
        let home = tempfile::tempdir()?;
        let dir = home.path().join("new/passwords");
        for given in [None, Some(&*dir)] {
            let refused = Passwords::gather(&cluster, given, false).err();
            let refused = refused.map(|error| error.to_string());
            let says = |part: &str| refused.as_ref().is_some_and(|text| text.contains(part));
            assert!(says("default, replication, shardwright"), "{refused:?}");
            assert!(says("--make-passwords"), "{refused:?}");
            assert!(
                says("go-template='{{index .data \"default\" | base64decode}}'"),
                "{refused:?}"
            );
        }
        assert!(!dir.exists(), "a refusal writes nothing");
        let first = Passwords::gather(&cluster, Some(&dir), true)?;
        assert!(!dir.exists(), "what is printed nowhere is kept nowhere");
        first.keep(&dir)?;
        for make in [true, false] {
            let again = Passwords::gather(&cluster, Some(&dir), make)?;
            again.keep(&dir)?;
            assert_eq!((&again.kept, again.made.len()), (&first.kept, 0));
        }
        let mode = |path: &Path| -> anyhow::Result<u32> {
            Ok(fs::metadata(path)?.permissions().mode() & 0o777)
        };
        assert_eq!(mode(&dir)?, PRIVATE_DIR);
        assert_eq!(mode(&dir.join("default"))?, PRIVATE_FILE);
        Ok(())
    }
}
