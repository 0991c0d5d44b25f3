//! Users: those that always exist, those of the document, and their rules.

use crate::acl::{self, Rules};
use crate::checks::names;
use crate::cluster::{DEFAULT_USER, PasswordSecret, REPLICATION_USER, SHARDWRIGHT_USER, User};
use crate::document::UserSpec;
use crate::problem::{Findings, field, item};
use crate::secret::PasswordHash;

/// The administrator: everything.
const DEFAULT_RULES: &str = "~* &* +@all";

/// What a replica does at its primary, and nothing else.
const REPLICATION_RULES: &str = "+psync +replconf +ping";

/// What Valkey's own move of slots (9.0 and later) does beside that: its source logs in at the target as this user, and
/// writes there what it has. Other servers do not know the command, and do not start with it in their ACL file.
const SLOT_MOVING_RULES: &str = "~* +cluster|syncslots +@write +select +function +multi +exec";

/// The rules of [`SLOT_MOVING_RULES`], one each.
pub(crate) fn slot_moving_rules() -> Vec<String> {
    // Tested below: they have no problems.
    acl::parse(SLOT_MOVING_RULES).0.tokens
}

/// What Shardwright does on a server, and nothing else. It reads and writes no key by itself, but
/// it moves keys between servers.
/// - connection: log in, name itself, be seen and be cut off (`client`), tell what the server can (`command`)
/// - the cluster: all of `cluster`, `role`, `info`, `dbsize`, `readonly`, `wait` before a switchover
/// - moving keys: `memory|usage` and `migrate` at the sender, which logs in at the receiver as the same user, and needs
///   `select` and `restore-asking` there
/// - functions do not move with slots: a new shard is given those of another (`function|load`), and
///   whether all have the same is compared (`function|list`)
/// - live changes: `config|get`, `config|set`, users (`acl`), a clean stop (`shutdown`)
///
/// Only names that every supported engine knows: a server with an unknown one does not start.
const SHARDWRIGHT_RULES: &str = "~* +ping +hello +auth +reset +client +command +cluster +role +info \
     +dbsize +readonly +readwrite +wait +memory|usage +migrate +select +restore-asking \
     +function|list +function|load +config|get +config|set +acl|load +acl|list +acl|users +acl|getuser +acl|setuser +acl|deluser +acl|whoami +acl|cat \
     +bgsave +bgrewriteaof +lastsave +shutdown";

/// Checks the users of a document and adds those that always exist. None if a user is not usable.
pub(crate) fn check(given: &[UserSpec], out: &mut Findings) -> Option<Vec<User>> {
    let mut ours = vec![
        built_in(DEFAULT_USER, DEFAULT_RULES),
        built_in(REPLICATION_USER, REPLICATION_RULES),
        built_in(SHARDWRIGHT_USER, SHARDWRIGHT_RULES),
    ];
    let mut theirs = Vec::new();
    let mut complete = true;
    for (index, spec) in given.iter().enumerate() {
        let path = item("spec.users", index);
        if let Some(first) = given[..index]
            .iter()
            .position(|other| other.name == spec.name)
        {
            let message = format!(
                "`{}` is listed twice: first as spec.users[{first}]",
                spec.name
            );
            out.problem(field(&path, "name"), message);
        } else if let Some(message) = names::bad_user_name(&spec.name) {
            out.problem(field(&path, "name"), message);
        }
        let built_in = ours.iter_mut().find(|user| user.name == spec.name);
        let preset = built_in.as_deref().map(|user| user.rules.clone());
        let Some(user) = check_user(&path, spec, preset, out) else {
            complete = false;
            continue;
        };
        match built_in {
            Some(slot) => *slot = user,
            None => theirs.push(user),
        }
    }
    ours.extend(theirs);
    complete.then_some(ours)
}

fn built_in(name: &str, rules: &str) -> User {
    User {
        name: name.to_owned(),
        // Tested below: the built-in rules have no problems.
        rules: acl::parse(rules).0,
        password_secret: None,
        password_hashes: Vec::new(),
    }
}

fn check_user(
    path: &str,
    spec: &UserSpec,
    preset: Option<Rules>,
    out: &mut Findings,
) -> Option<User> {
    let fixed = matches!(spec.name.as_str(), REPLICATION_USER | SHARDWRIGHT_USER);
    let rules_path = field(path, "rules");
    let rules = match (&spec.rules, preset) {
        (Some(_), Some(_)) if fixed => {
            let message = format!(
                "the rules of `{}` are Shardwright's own: leave the field out",
                spec.name
            );
            out.problem(&rules_path, message);
            None
        }
        (Some(text), _) => check_rules(&rules_path, text, spec, out),
        (None, Some(preset)) => Some(preset),
        (None, None) => {
            let message =
                "is missing: say what the user may do, for example `~* &* +@all -@dangerous`";
            out.problem(&rules_path, message);
            None
        }
    };
    if fixed && !spec.password_hashes.is_empty() {
        let message = format!(
            "cannot be given for `{}`: Shardwright has to know the password itself; use passwordSecret or leave both out",
            spec.name
        );
        out.problem(field(path, "passwordHashes"), message);
    }
    let password_hashes = check_hashes(path, &spec.password_hashes, out);
    let password_secret = spec.password_secret.as_ref().map(|secret| {
        let path = field(path, "passwordSecret");
        if let Some(message) = names::bad_object_name(&secret.name) {
            out.problem(field(&path, "name"), message);
        }
        if let Some(message) = names::bad_secret_key(&secret.key) {
            out.problem(field(&path, "key"), message);
        }
        PasswordSecret {
            name: secret.name.clone(),
            key: secret.key.clone(),
        }
    });
    Some(User {
        name: spec.name.clone(),
        rules: rules?,
        password_secret,
        password_hashes,
    })
}

fn check_rules(path: &str, text: &str, spec: &UserSpec, out: &mut Findings) -> Option<Rules> {
    let (rules, verdict) = acl::parse(text);
    let fine = verdict.problems.is_empty();
    for message in verdict.problems {
        out.problem(path, message);
    }
    for message in verdict.warnings {
        out.warning(path, message);
    }
    if rules.without_password {
        if spec.password_secret.is_some() || !spec.password_hashes.is_empty() {
            out.problem(
                path,
                "`nopass`: the user has a password too; give one or the other",
            );
        } else {
            out.warning(
                path,
                format!(
                    "`nopass`: whoever reaches a port is let in as `{}`",
                    spec.name
                ),
            );
        }
    }
    fine.then_some(rules)
}

fn check_hashes(path: &str, given: &[String], out: &mut Findings) -> Vec<PasswordHash> {
    let path = field(path, "passwordHashes");
    let mut hashes = Vec::new();
    for (index, text) in given.iter().enumerate() {
        match PasswordHash::parse(text) {
            Ok(hash) if hashes.contains(&hash) => out.problem(item(&path, index), "stands twice"),
            Ok(hash) => hashes.push(hash),
            Err(error) => out.problem(item(&path, index), error.to_string()),
        }
    }
    hashes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_of_the_built_in_users_have_no_fault() {
        for rules in [
            DEFAULT_RULES,
            REPLICATION_RULES,
            SLOT_MOVING_RULES,
            SHARDWRIGHT_RULES,
        ] {
            let (_, verdict) = acl::parse(rules);
            assert!(verdict.problems.is_empty(), "{:?}", verdict.problems);
            assert!(verdict.warnings.is_empty(), "{:?}", verdict.warnings);
        }
    }
}
