//! Passwords that are changed while servers run.
//!
//! A server reads its users, and what it logs in with at its primary, when it starts. So the pods that start after a
//! change would have the new password, and all others the old one: neither could log in at the other. As long as there
//! are pods, the objects that they mount keep the passwords that they have, and the change is named.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret as SecretObject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Client};
use shardwright_engine::{Access, Alternative, Credentials};
use shardwright_manifest::{Cluster, REPLICATION_USER, SHARDWRIGHT_USER, Secret};

use crate::apply::{Applier, ApplyError, Run};
use crate::names::{self, Names};
use crate::objects::Objects;
use crate::passwords::{PasswordError, Passwords, place_of};
use crate::request::{RequestError, ask};

/// The users whose passwords are also kept in plain text, where servers and we log in with them, and the file.
const LOGINS: [(&str, &str); 2] = [
    (REPLICATION_USER, names::REPLICATION_FILE),
    (SHARDWRIGHT_USER, names::PASSWORD_FILE),
];

impl Applier {
    /// Where there are pods, keeps in these objects the passwords that pods have, and notes whose were changed. Returns how
    /// we log in at the servers.
    pub(crate) async fn keep_passwords(
        &mut self,
        cluster: &Cluster,
        passwords: &mut Passwords,
        objects: &mut Objects,
        run: &mut Run<'_>,
    ) -> Result<Access, ApplyError> {
        let wanted = passwords.all();
        let own = wanted.get(SHARDWRIGHT_USER).cloned();
        let runs = self.world.set(&self.key).is_some() || !self.world.pods(&self.key).is_empty();
        if !runs || self.in_use.as_ref() == Some(&wanted) {
            return Ok(access(own, None));
        }
        self.in_use = None;
        let in_use = InUse::read(self.world.client(), &self.names, &run.owner.uid).await?;
        let changed = in_use
            .keep(objects, &wanted)
            .map_err(|user| lost(cluster, &self.names, user))?;
        if changed.is_empty() {
            self.in_use = Some(wanted);
            return Ok(access(own, None));
        }
        let just_made = passwords.is_fresh(SHARDWRIGHT_USER);
        passwords.leave_out(&changed);
        let texts = changed
            .iter()
            .map(|user| not_applied(cluster, &self.names, user));
        run.passwords_not_applied = texts.collect();
        let of_servers = in_use
            .own_password()
            .filter(|_| changed.contains(SHARDWRIGHT_USER));
        Ok(match of_servers {
            // A person may have given the servers the other one.
            Some(password) => access(Some(password), own.filter(|_| !just_made)),
            None => access(own, None),
        })
    }
}

/// How we log in: as our own user where it has a password, and with another one where that is refused.
fn access(password: Option<Secret>, changed: Option<Secret>) -> Access {
    let login = |password: Secret| Credentials {
        user: Some(SHARDWRIGHT_USER.to_owned()),
        password: shardwright_engine::Secret::new(password.expose()),
    };
    Access {
        credentials: password.map(login),
        alternative: changed.map(login).map(Alternative::new),
        ..Access::default()
    }
}

/// What the pods of a cluster mount that has to do with passwords. Never shown: it holds some.
pub(crate) struct InUse {
    /// The ACL file; absent where there is none yet.
    acl: Option<String>,
    /// The files that servers and we log in with, by name.
    logins: BTreeMap<String, String>,
}

impl InUse {
    /// Reads the objects that belong to the cluster object with this uid. Those of an earlier one are on their way out.
    pub(crate) async fn read(
        client: &Client,
        names: &Names,
        owner_uid: &str,
    ) -> Result<Self, RequestError> {
        let secrets = Api::<SecretObject>::namespaced(client.clone(), names.namespace());
        let maps = Api::<ConfigMap>::namespaced(client.clone(), names.namespace());
        let (acl, auth) = (names.acl(), names.auth_secret());
        let what = |kind: &str, name: &str| format!("read the {kind} {name}");
        let logins = ask(|| what("Secret", &auth), secrets.get_opt(&auth)).await?;
        let users = ask(|| what("Secret", &acl), secrets.get_opt(&acl)).await?;
        let mut users = files(users, owner_uid);
        if users.is_empty() {
            let map = ask(|| what("ConfigMap", &acl), maps.get_opt(&acl)).await?;
            let map = map.filter(|map| is_owned(&map.metadata, owner_uid));
            users.extend(map.into_iter().filter_map(|map| map.data).flatten());
        }
        Ok(Self {
            acl: users.remove(names::ACL_FILE),
            logins: files(logins, owner_uid),
        })
    }

    /// Keeps in these objects the passwords of users who have another one now than they are wanted to have; which users.
    ///
    /// # Errors
    /// Names a user whose password in use can't be kept, as the object that held it is gone.
    pub(crate) fn keep(
        &self,
        objects: &mut Objects,
        wanted: &BTreeMap<String, Secret>,
    ) -> Result<BTreeSet<String>, String> {
        let Some(acl) = &self.acl else {
            return Ok(BTreeSet::new());
        };
        let in_use = hashes_by_user(acl);
        let mut changed: BTreeMap<&str, Kept<'_>> = BTreeMap::new();
        for (user, password) in wanted {
            let new = hash_word(password);
            let Some(hashes) = in_use.get(user.as_str()) else {
                continue;
            };
            // Who has no password is let in without one.
            if !hashes.is_empty() && !hashes.contains(new.as_str()) {
                changed.insert(user, Kept { hashes, new });
            }
        }
        for (user, file) in LOGINS {
            if changed.contains_key(user) {
                let text = self.logins.get(file).ok_or_else(|| user.to_owned())?;
                let files = objects.auth.data.get_or_insert_with(BTreeMap::new);
                files.insert(file.to_owned(), ByteString(text.clone().into_bytes()));
            }
        }
        objects.acl.edit(|text| with_kept(text, &changed));
        // A Secret that is made anew gets no password that no server has.
        let made = objects.passwords.iter_mut();
        for data in made.filter_map(|secret| secret.data.as_mut()) {
            data.retain(|user, _| !changed.contains_key(user.as_str()));
        }
        Ok(changed.into_keys().map(str::to_owned).collect())
    }

    /// The password of our own user that the servers have.
    pub(crate) fn own_password(&self) -> Option<Secret> {
        let text = self.logins.get(names::PASSWORD_FILE)?;
        Some(Secret::new(text.as_str()))
    }
}

/// The hashes that a user keeps, and the one that stays out, as words of an ACL file.
struct Kept<'a> {
    hashes: &'a BTreeSet<&'a str>,
    new: String,
}

/// The files in a Secret that belongs to the cluster object with this uid.
fn files(secret: Option<SecretObject>, owner_uid: &str) -> BTreeMap<String, String> {
    let secret = secret.filter(|secret| is_owned(&secret.metadata, owner_uid));
    let data = secret.into_iter().filter_map(|secret| secret.data);
    let text = |bytes: ByteString| String::from_utf8_lossy(&bytes.0).into_owned();
    data.flatten()
        .map(|(name, bytes)| (name, text(bytes)))
        .collect()
}

fn is_owned(meta: &ObjectMeta, owner_uid: &str) -> bool {
    let mut owners = meta.owner_references.iter().flatten();
    owners.any(|owner| owner.uid == owner_uid)
}

/// A password as it stands in an ACL file.
fn hash_word(password: &Secret) -> String {
    format!("#{}", password.hash().as_str())
}

fn is_hash(word: &str) -> bool {
    word.starts_with('#')
}

/// The user that a line of an ACL file is about: `user NAME on #HASH… RULES…`.
fn user_of(line: &str) -> Option<&str> {
    let mut words = line.split(' ');
    (words.next() == Some("user"))
        .then(|| words.next())
        .flatten()
}

fn hashes_by_user(acl: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let users = acl.lines().filter_map(|line| {
        let hashes = line.split(' ').filter(|word| is_hash(word)).collect();
        Some((user_of(line)?, hashes))
    });
    users.collect()
}

/// An ACL file with the hashes of these users as they are kept.
fn with_kept(acl: &str, kept: &BTreeMap<&str, Kept<'_>>) -> String {
    let mut text = String::with_capacity(acl.len());
    for line in acl.lines() {
        match user_of(line).and_then(|user| kept.get(user)) {
            Some(kept) => text.push_str(&line_with(line, kept)),
            None => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

/// The line of one user with the hashes that are kept, and without the new one. Others that the manifest lists stay.
fn line_with(line: &str, kept: &Kept<'_>) -> String {
    let hashes = line.split(' ').filter(|word| is_hash(word));
    let mut hashes: BTreeSet<&str> = hashes.filter(|word| *word != kept.new).collect();
    hashes.extend(kept.hashes);
    let rest: Vec<&str> = line.split(' ').filter(|word| !is_hash(word)).collect();
    // `user NAME on`, then the passwords, then the rights.
    let (head, rights) = rest.split_at(rest.len().min(3));
    let words = head.iter().copied().chain(hashes);
    let words: Vec<&str> = words.chain(rights.iter().copied()).collect();
    words.join(" ")
}

/// What a person is told of a changed password that servers which run do not get, with what takes the change back.
pub(crate) fn not_applied(cluster: &Cluster, names: &Names, user: &str) -> String {
    let (namespace, auth) = (names.namespace(), names.auth_secret());
    let (secret, key) = place_of(cluster, names, user);
    let back = match user {
        SHARDWRIGHT_USER => format!(
            "put it back: kubectl patch secret -n {namespace} {secret} -p \"{{\\\"data\\\":{{\\\"{key}\\\":\\\"$(kubectl \
             get secret -n {namespace} {auth} -o jsonpath='{{.data.{}}}')\\\"}}}}\"",
            names::PASSWORD_FILE
        ),
        REPLICATION_USER => format!(
            "put it back; it stands in: kubectl get secret -n {namespace} {auth} -o \
             go-template='{{{{index .data \"{}\" | base64decode}}}}'",
            names::REPLICATION_FILE
        ),
        _ => "put it back".to_owned(),
    };
    let first = if cluster.kubernetes().retain_volumes {
        ""
    } else {
        " (set spec.retainVolumes to true first, or the data goes as well)"
    };
    format!(
        "the Secret {secret} (key {key}) does not hold the password of the user {user} that the servers have, and they \
         keep it: {back}; a new one is taken when the whole cluster starts: delete the RedisCluster{first}, and apply it \
         again once its pods are gone"
    )
}

/// The password that the servers have was in an object of ours that is not there any more.
pub(crate) fn lost(cluster: &Cluster, names: &Names, user: String) -> PasswordError {
    let (secret, key) = place_of(cluster, names, &user);
    PasswordError::InUseIsGone {
        user,
        secret,
        key,
        auth: names.auth_secret(),
    }
}

#[cfg(test)]
#[path = "password_changes_tests.rs"]
mod tests;
