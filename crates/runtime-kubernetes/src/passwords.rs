//! The passwords of a cluster's users: made once and kept, or read from the Secrets that the manifest names.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Secret as SecretObject;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Map, Value, json};
use shardwright_manifest::{Cluster, SHARDWRIGHT_USER, Secret};

use crate::names::{self, Names};
use crate::objects::{passwords_to_make, passwords_to_read};
use crate::request::{RequestError, ask};

/// A password can't be had.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// A request failed.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The Secret that the manifest names is not there.
    #[error(
        "the password of user {user}: there is no Secret {secret}; create it, with the key {key}"
    )]
    NoSecret {
        /// Whose.
        user: String,
        /// Which.
        secret: String,
        /// Its key.
        key: String,
    },
    /// The Secret has no such key.
    #[error("the password of user {user}: the Secret {secret} has no key {key}; add it")]
    NoKey {
        /// Whose.
        user: String,
        /// Which.
        secret: String,
        /// The key.
        key: String,
    },
    /// What is there can't be a password.
    #[error(
        "the password of user {user}: the key {key} of the Secret {secret} is empty or no text; change it"
    )]
    Unusable {
        /// Whose.
        user: String,
        /// Which.
        secret: String,
        /// The key.
        key: String,
    },
    /// It was changed, and the password that the servers have is not there any more.
    #[error(
        "the password of user {user} in the Secret {secret} (key {key}) is another than the servers have, and the Secret {auth}, which held theirs, is gone; put the password that they have back into {secret}"
    )]
    InUseIsGone {
        /// Whose.
        user: String,
        /// Where the changed one is.
        secret: String,
        /// Its key.
        key: String,
        /// The Secret that the pods mount.
        auth: String,
    },
    /// The system gives no random bytes.
    #[error("no random bytes for a password: {0}")]
    Random(String),
}

/// The passwords of a cluster, by user.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Passwords {
    pub(crate) made: BTreeMap<String, Secret>,
    pub(crate) read: BTreeMap<String, Secret>,
    /// Those of [`Passwords::made`] that the Secret does not hold yet.
    fresh: BTreeMap<String, Secret>,
    /// The state of the Secret that was read; absent where there is none.
    found: Option<String>,
}

impl Passwords {
    /// All, by user.
    pub(crate) fn all(&self) -> BTreeMap<String, Secret> {
        let read = self.read.iter().chain(&self.made);
        read.map(|(user, password)| (user.clone(), password.clone()))
            .collect()
    }

    /// Keeps none of these that was just made: the servers have others, which were in the Secret before.
    pub(crate) fn leave_out(&mut self, users: &BTreeSet<String>) {
        self.fresh.retain(|user, _| !users.contains(user));
    }

    /// Whether this password was just made.
    pub(crate) fn is_fresh(&self, user: &str) -> bool {
        self.fresh.contains_key(user)
    }

    /// Reads what there is, and makes what is missing: in memory only, see [`Passwords::keep`].
    pub(crate) async fn gather(
        client: &Client,
        names: &Names,
        cluster: &Cluster,
    ) -> Result<Self, PasswordError> {
        let api = Api::<SecretObject>::namespaced(client.clone(), names.namespace());
        let mut all = Self::default();
        for (user, place) in passwords_to_read(cluster) {
            let secret = get(&api, &place.name).await?;
            let password = password(user, secret.as_ref(), &place.name, &place.key)?;
            all.read.insert(user.to_owned(), password);
        }
        let to_make = passwords_to_make(cluster);
        if to_make.is_empty() {
            return Ok(all);
        }
        let name = names.passwords_secret();
        let kept = get(&api, &name).await?;
        all.found = kept.as_ref().and_then(ResourceExt::resource_version);
        for user in to_make {
            let has = |secret: &&SecretObject| {
                let mut data = secret.data.iter();
                data.any(|data| data.contains_key(user))
            };
            let password = if let Some(secret) = kept.as_ref().filter(has) {
                password(user, Some(secret), &name, user)?
            } else {
                let fresh = make()?;
                all.fresh.insert(user.to_owned(), fresh.clone());
                fresh
            };
            all.made.insert(user.to_owned(), password);
        }
        Ok(all)
    }

    /// Keeps the passwords that were just made, before anything is made from them. What is there is never
    /// overwritten: where another was quicker, this fails. Says whether it wrote.
    pub(crate) async fn keep(
        &mut self,
        client: &Client,
        names: &Names,
        first: &SecretObject,
    ) -> Result<bool, RequestError> {
        if self.fresh.is_empty() {
            return Ok(false);
        }
        let api = Api::<SecretObject>::namespaced(client.clone(), names.namespace());
        let name = names.passwords_secret();
        let what = || format!("keep the passwords in the Secret {name}");
        let kept = match &self.found {
            None => {
                let create = PostParams {
                    field_manager: Some(names::FIELD_MANAGER.to_owned()),
                    ..PostParams::default()
                };
                ask(what, api.create(&create, first)).await?
            }
            Some(version) => {
                let mut added = Map::new();
                for (user, password) in &self.fresh {
                    added.insert(user.clone(), json!(password.expose()));
                }
                let patch: Patch<Value> = Patch::Merge(json!({
                    "metadata": {"resourceVersion": version},
                    "stringData": added,
                }));
                let manager = PatchParams {
                    field_manager: Some(names::FIELD_MANAGER.to_owned()),
                    ..PatchParams::default()
                };
                ask(what, api.patch(&name, &manager, &patch)).await?
            }
        };
        self.found = kept.resource_version();
        self.fresh.clear();
        Ok(true)
    }
}

/// The Secret with a user's password, and its key: as the manifest names them, else those that are made.
pub(crate) fn place_of(cluster: &Cluster, names: &Names, user: &str) -> (String, String) {
    let mut places = passwords_to_read(cluster).into_iter();
    match places.find(|(name, _)| *name == user) {
        Some((_, place)) => (place.name.clone(), place.key.clone()),
        None => (names.passwords_secret(), user.to_owned()),
    }
}

/// The password of Shardwright's own user, which is only read: with it, whoever may read the Secret enters as the
/// operator does. It is that of the servers: the Secret that the manifest names may hold another by now.
pub async fn own_password(client: &Client, cluster: &Cluster) -> Result<Secret, PasswordError> {
    let names = Names::of(cluster);
    let api = Api::<SecretObject>::namespaced(client.clone(), names.namespace());
    let (auth, file) = (names.auth_secret(), names::PASSWORD_FILE);
    match get(&api, &auth).await {
        Ok(Some(secret)) => return password(SHARDWRIGHT_USER, Some(&secret), &auth, file),
        Ok(None) => {}
        // The right to read one Secret may be given by its name.
        Err(error) if error.code() == Some(403) => {}
        Err(error) => return Err(error.into()),
    }
    let (name, key) = place_of(cluster, &names, SHARDWRIGHT_USER);
    let secret = get(&api, &name).await?;
    password(SHARDWRIGHT_USER, secret.as_ref(), &name, &key)
}

async fn get(api: &Api<SecretObject>, name: &str) -> Result<Option<SecretObject>, RequestError> {
    ask(|| format!("read the Secret {name}"), api.get_opt(name)).await
}

/// The password under a key. The line end that `echo` leaves behind is no part of it.
fn password(
    user: &str,
    secret: Option<&SecretObject>,
    name: &str,
    key: &str,
) -> Result<Secret, PasswordError> {
    let (user, name, key) = (user.to_owned(), name.to_owned(), key.to_owned());
    let Some(secret) = secret else {
        let secret = name;
        return Err(PasswordError::NoSecret { user, secret, key });
    };
    let Some(bytes) = secret.data.as_ref().and_then(|data| data.get(&key)) else {
        let secret = name;
        return Err(PasswordError::NoKey { user, secret, key });
    };
    match std::str::from_utf8(&bytes.0).map(|text| text.trim_end_matches(['\r', '\n'])) {
        Ok(text) if !text.is_empty() => Ok(Secret::new(text)),
        Ok(_) | Err(_) => {
            let secret = name;
            Err(PasswordError::Unusable { user, secret, key })
        }
    }
}

fn make() -> Result<Secret, PasswordError> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|e| PasswordError::Random(e.to_string()))?;
    Ok(Secret::from_random(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(data: &Value) -> SecretObject {
        serde_json::from_value(json!({"data": data})).expect("a Secret")
    }

    #[test]
    fn a_password_is_text_without_its_line_end() {
        // "hunter2\n", "" and the byte 0xff.
        let object = secret(&json!({"good": "aHVudGVyMgo=", "empty": "", "binary": "/w=="}));
        let read = |key: &str| password("worker", Some(&object), "mine", key);
        assert_eq!(read("good").expect("a password").expose(), "hunter2");
        for key in ["empty", "binary"] {
            assert!(
                matches!(read(key), Err(PasswordError::Unusable { .. })),
                "{key}"
            );
        }
        assert!(matches!(read("other"), Err(PasswordError::NoKey { .. })));
        let none = password("worker", None, "mine", "good");
        assert!(matches!(none, Err(PasswordError::NoSecret { .. })));
    }
}
