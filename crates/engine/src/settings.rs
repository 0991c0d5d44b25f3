//! Which settings a server knows.

use crate::{Client, Error};

/// Settings that engines take from a file and pass over: `CONFIG GET` does not know them, and a server starts with them all
/// the same. Which of them one engine passes over and another obeys does not matter here: none is misspelled.
const PASSED_OVER: [&str; 6] = [
    "dynamic-hz",
    "events-per-io-thread",
    "io-threads-do-reads",
    "list-max-ziplist-entries",
    "list-max-ziplist-value",
    "lua-replicate-commands",
];

impl Client {
    /// Those of the settings of these names that the server does not know: it would not start with a file that gives them.
    /// Names are exact, in lower case, and of today or of before. Settings of modules are known while they are loaded.
    ///
    /// # Errors
    /// As every call; also where this user may not ask.
    pub async fn unknown_settings(&self, names: &[&str]) -> Result<Vec<String>, Error> {
        let mut unknown = Vec::new();
        for name in names {
            if PASSED_OVER.contains(name) {
                continue;
            }
            let told = self.config_get(name).await?;
            if !told.iter().any(|(known, _)| known == name) {
                unknown.push((*name).to_owned());
            }
        }
        Ok(unknown)
    }
}
