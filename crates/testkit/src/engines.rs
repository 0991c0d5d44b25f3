//! Every Redis and Valkey server that this machine can run.
//!
//! Looked for, in this order: the folder named by `SHARDWRIGHT_ENGINES`, `.engines` at the
//! root of the repository (both hold `NAME/bin/{redis,valkey}-server`), then `PATH`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::sync::OnceLock;

use crate::Error;

/// Names that a server binary may have.
const BINARIES: [&str; 2] = ["redis-server", "valkey-server"];

/// Which project a server comes from, as it says itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Redis.
    Redis,
    /// Valkey.
    Valkey,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redis => "redis",
            Self::Valkey => "valkey",
        })
    }
}

/// A released version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 7 of 7.0.15.
    pub major: u32,
    /// 0 of 7.0.15.
    pub minor: u32,
    /// 15 of 7.0.15.
    pub patch: u32,
}

impl FromStr for Version {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split(['.', '-']);
        let mut next = || parts.next().unwrap_or("0").parse();
        Ok(Self {
            major: next()?,
            minor: next()?,
            patch: next()?,
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// A server binary that runs on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    /// Kind and minor version, such as `redis-7.0`.
    pub name: String,
    /// Redis or Valkey, from what the binary says of itself.
    pub kind: Kind,
    /// From `--version`.
    pub version: Version,
    /// The binary.
    pub path: PathBuf,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} ({})",
            self.kind,
            self.version,
            self.path.display()
        )
    }
}

/// A binary that was found and does not run, and why.
#[derive(Clone, Debug)]
pub struct Rejected {
    /// The binary.
    pub path: PathBuf,
    /// What it said instead of its version.
    pub why: String,
}

/// What the search found.
#[derive(Debug, Default)]
pub struct Found {
    /// Engines that run, one per name, sorted by name.
    pub usable: Vec<Engine>,
    /// Binaries that do not run.
    pub rejected: Vec<Rejected>,
}

/// All engines of this machine; looked for once per process.
pub fn engines() -> &'static Found {
    static FOUND: OnceLock<Found> = OnceLock::new();
    FOUND.get_or_init(search)
}

/// The engine of that name: `redis-7.0`, or `redis` / `valkey` for the newest of its kind.
pub fn engine(wanted: &str) -> Result<Engine, Error> {
    let found = engines();
    let named = found.usable.iter().find(|engine| engine.name == wanted);
    let newest = || {
        let mut of_kind: Vec<_> = found
            .usable
            .iter()
            .filter(|engine| engine.kind.to_string() == wanted)
            .collect();
        of_kind.sort_by_key(|engine| engine.version);
        of_kind.pop()
    };
    named
        .or_else(newest)
        .cloned()
        .ok_or_else(|| Error::NoEngine {
            wanted: wanted.to_owned(),
            found: describe(found),
        })
}

fn describe(found: &Found) -> String {
    let usable = found.usable.iter().map(|engine| engine.name.clone());
    let rejected = found
        .rejected
        .iter()
        .map(|rejected| format!("{} does not run: {}", rejected.path.display(), rejected.why));
    let all: Vec<String> = usable.chain(rejected).collect();
    if all.is_empty() {
        "none".to_owned()
    } else {
        all.join(", ")
    }
}

fn search() -> Found {
    let mut found = Found::default();
    for path in candidates() {
        match ask_version(&path) {
            Ok(engine) => {
                if found.usable.iter().all(|known| known.name != engine.name) {
                    found.usable.push(engine);
                }
            }
            Err(why) => found.rejected.push(Rejected { path, why }),
        }
    }
    found.usable.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// `.engines` beside the workspace's Cargo.lock.
fn repository_engines() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.engines")
}

fn candidates() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    let named = std::env::var_os("SHARDWRIGHT_ENGINES").map(PathBuf::from);
    for root in named.into_iter().chain([repository_engines()]) {
        // A root that does not exist holds no engines; that is no error.
        let Ok(entries) = std::fs::read_dir(&root) else {
            continue;
        };
        let mut inside: Vec<_> = entries
            .flatten()
            .map(|entry| entry.path().join("bin"))
            .collect();
        inside.sort();
        folders.append(&mut inside);
    }
    if let Some(path) = std::env::var_os("PATH") {
        folders.extend(std::env::split_paths(&path));
    }
    let mut binaries = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for folder in folders {
        for name in BINARIES {
            let binary = folder.join(name);
            let Ok(real) = binary.canonicalize() else {
                continue;
            };
            // A program may be a link to one of another name and behave by its own: it is run by the name found.
            if seen.insert(real) {
                binaries.push(binary);
            }
        }
    }
    binaries
}

fn ask_version(path: &Path) -> Result<Engine, String> {
    let output = Command::new(path)
        .arg("--version")
        .output()
        .map_err(|e| e.to_string())?;
    let said = String::from_utf8_lossy(&output.stdout);
    let parsed = parse_version(&said);
    let (kind, version) = parsed.ok_or_else(|| {
        let complaint = String::from_utf8_lossy(&output.stderr);
        complaint
            .lines()
            .next()
            .unwrap_or("it does not tell its version")
            .to_owned()
    })?;
    Ok(Engine {
        name: format!("{kind}-{}.{}", version.major, version.minor),
        kind,
        version,
        path: path.to_owned(),
    })
}

/// `Redis server v=7.0.15 sha=…` or `Valkey server v=9.1.2 sha=…`.
fn parse_version(said: &str) -> Option<(Kind, Version)> {
    let kind = match said.split_whitespace().next()? {
        "Redis" => Kind::Redis,
        "Valkey" => Kind::Valkey,
        _ => return None,
    };
    let version = said
        .split_whitespace()
        .find_map(|word| word.strip_prefix("v="))?;
    Some((kind, version.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_line_of_both_engines_is_understood() {
        let redis = parse_version("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc bits=64");
        assert_eq!(
            redis,
            Some((
                Kind::Redis,
                Version {
                    major: 7,
                    minor: 0,
                    patch: 15
                }
            ))
        );
        let valkey = parse_version("Valkey server v=9.1.2 sha=00000000:1 malloc=libc bits=64");
        assert_eq!(
            valkey,
            Some((
                Kind::Valkey,
                Version {
                    major: 9,
                    minor: 1,
                    patch: 2
                }
            ))
        );
        assert_eq!(parse_version("error while loading shared libraries"), None);
    }

    #[test]
    fn an_unknown_engine_is_an_error_that_says_what_was_found() {
        let error = engine("redis-1.0").expect_err("there is no such engine");
        assert!(error.to_string().contains("make engines"), "{error}");
    }
}
