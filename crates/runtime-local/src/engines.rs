//! Which server program to run.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use shardwright_topology::{EngineKind, Version};

/// What was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EngineChoice {
    /// Whichever is found, Valkey first.
    Any,
    /// This kind, from the search path.
    Kind(EngineKind),
    /// This program.
    Path(PathBuf),
}

impl FromStr for EngineChoice {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "redis" => Self::Kind(EngineKind::Redis),
            "valkey" => Self::Kind(EngineKind::Valkey),
            path => Self::Path(PathBuf::from(path)),
        })
    }
}

/// A server program that was found and answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Engine {
    /// Its path.
    pub path: PathBuf,
    /// What it is.
    pub kind: EngineKind,
    /// Its version.
    pub version: Version,
}

impl Engine {
    /// Whether this program can take the place of that one, whose data is there: of the same engine, and not older. What
    /// a newer version writes an older one does not read, and Redis and Valkey read one another's files only by chance.
    pub(crate) fn reads_what_was_written_by(&self, before: &Self) -> bool {
        self.kind == before.kind && self.version >= before.version
    }
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

/// No server program can be used.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// None is on the search path.
    #[error(
        "no {wanted} found on the search path; install one (Debian: apt-get install {package}) or name it: --engine PATH"
    )]
    NotFound {
        /// The programs that were looked for.
        wanted: String,
        /// Debian's package.
        package: String,
    },
    /// There is no search path to look on.
    #[error(
        "PATH is not set, so {wanted} is looked for nowhere; set it, or name the program: --engine PATH"
    )]
    NoSearchPath {
        /// The programs that were to be looked for.
        wanted: String,
    },
    /// The program can't be run.
    #[error("cannot run {}; is it a server for this machine?", path.display())]
    NotRun {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The program is no Redis or Valkey server, or too old.
    #[error("{} is no Redis or Valkey server of version 7 or later: it says {said:?}", path.display())]
    NoServer {
        /// Which.
        path: PathBuf,
        /// What it said of itself.
        said: String,
    },
}

/// Finds the server program and asks it for its version.
pub fn find_engine(choice: &EngineChoice) -> Result<Engine, EngineError> {
    let (names, package): (&[&str], &str) = match choice {
        EngineChoice::Path(path) => return ask(path),
        EngineChoice::Kind(EngineKind::Redis) => (&["redis-server"], "redis-server"),
        EngineChoice::Kind(EngineKind::Valkey) => (&["valkey-server"], "valkey-server"),
        EngineChoice::Any => (&["valkey-server", "redis-server"], "redis-server"),
    };
    let wanted = names.join(" or ");
    let Some(dirs) = std::env::var_os("PATH") else {
        return Err(EngineError::NoSearchPath { wanted });
    };
    let dirs: Vec<PathBuf> = std::env::split_paths(&dirs).collect();
    for name in names {
        if let Some(path) = dirs.iter().map(|dir| dir.join(name)).find(|p| p.is_file()) {
            return ask(&path);
        }
    }
    Err(EngineError::NotFound {
        wanted,
        package: package.to_owned(),
    })
}

/// `Redis server v=7.0.15 …` or `Server v=9.1.2 …` or `Valkey server v=8.0.1 …`.
fn ask(path: &Path) -> Result<Engine, EngineError> {
    let output = Command::new(path)
        .arg("--version")
        .output()
        .map_err(|source| EngineError::NotRun {
            path: path.to_owned(),
            source,
        })?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let version = said
        .split_whitespace()
        .find_map(|w| w.strip_prefix("v="))
        .and_then(version);
    match version {
        Some(version) if version.major >= 7 => {
            let redis = said.to_ascii_lowercase().starts_with("redis");
            let kind = if redis {
                EngineKind::Redis
            } else {
                EngineKind::Valkey
            };
            Ok(Engine {
                path: path.to_owned(),
                kind,
                version,
            })
        }
        _ => Err(EngineError::NoServer {
            path: path.to_owned(),
            said,
        }),
    }
}

fn version(text: &str) -> Option<Version> {
    let mut parts = text.split('.').map(|part| part.parse::<u16>().ok());
    Some(Version {
        major: parts.next()??,
        minor: parts.next()??,
        patch: parts.next()??,
    })
}
