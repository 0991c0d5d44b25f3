//! The rules about manifests: who may use whom, and what each crate must say.

use crate::rules::{Offence, PURE, offence, room};
use crate::tree::{Manifest, Tree};

/// What each crate may use of ours. A dev-dependency may be `testkit` or `sim` as well.
const ROOMS: [(&str, &[&str]); 14] = [
    ("topology", &[]),
    ("planner", &["topology"]),
    ("sim", &["topology", "planner"]),
    ("manifest", &["topology", "planner"]),
    ("engine", &["topology"]),
    ("runtime", &["topology", "planner", "engine"]),
    ("node", &[]),
    (
        "runtime-local",
        &["topology", "planner", "engine", "runtime", "manifest"],
    ),
    (
        "runtime-kubernetes",
        &["topology", "planner", "engine", "runtime", "manifest"],
    ),
    (
        "operator",
        &[
            "topology",
            "planner",
            "engine",
            "runtime",
            "manifest",
            "runtime-kubernetes",
        ],
    ),
    (
        "shardwright",
        &[
            "topology",
            "planner",
            "engine",
            "manifest",
            "runtime",
            "runtime-local",
            "runtime-kubernetes",
            "operator",
        ],
    ),
    ("testkit", &["topology", "engine"]),
    // The cases on a real Kubernetes: from outside, so none of the rooms that are tested.
    ("e2e", &["topology", "testkit"]),
    ("fuzz", &["topology", "planner", "engine", "manifest"]),
];

/// Crates that bring IO, a clock, an executor or logging.
const NOT_PURE: [&str; 17] = [
    "tokio",
    "kube",
    "k8s-openapi",
    "tracing",
    "log",
    "redis",
    "rustls",
    "reqwest",
    "hyper",
    "futures-util",
    "async-trait",
    "jiff",
    "chrono",
    "time",
    "getrandom",
    "rustix",
    "tempfile",
];

struct Dependency<'a> {
    name: &'a str,
    value: &'a toml::Value,
    dev: bool,
}

fn dependencies(manifest: &Manifest) -> Vec<Dependency<'_>> {
    let mut found = Vec::new();
    for (table, dev) in [
        ("dependencies", false),
        ("build-dependencies", false),
        ("dev-dependencies", true),
    ] {
        let Some(entries) = manifest.table.get(table).and_then(toml::Value::as_table) else {
            continue;
        };
        found.extend(
            entries
                .iter()
                .map(|(name, value)| Dependency { name, value, dev }),
        );
    }
    found
}

pub(crate) fn rooms_use_only_the_rooms_below_them(tree: &Tree) -> Vec<Offence> {
    let mut found = Vec::new();
    for manifest in &tree.manifests {
        let Some(room) = room(&manifest.path) else {
            continue;
        };
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            found.push(offence(
                &manifest.path,
                format!("`{room}` is not in the table of rooms"),
            ));
            continue;
        };
        for dependency in dependencies(manifest) {
            let Some(other) = dependency.name.strip_prefix("shardwright-") else {
                continue;
            };
            let for_tests = dependency.dev && ["testkit", "sim"].contains(&other);
            if !allowed.contains(&other) && !for_tests {
                found.push(offence(&manifest.path, format!("{room} uses {other}")));
            }
        }
    }
    found
}

pub(crate) fn pure_rooms_have_no_io_in_their_dependencies(tree: &Tree) -> Vec<Offence> {
    let mut found = Vec::new();
    for manifest in &tree.manifests {
        if !room(&manifest.path).is_some_and(|room| PURE.contains(&room)) {
            continue;
        }
        for dependency in dependencies(manifest) {
            if !dependency.dev && NOT_PURE.contains(&dependency.name) {
                found.push(offence(&manifest.path, dependency.name));
            }
        }
    }
    found
}

pub(crate) fn only_the_kubernetes_rooms_know_kube(tree: &Tree) -> Vec<Offence> {
    const MAY: [&str; 5] = [
        "runtime-kubernetes",
        "operator",
        "shardwright",
        "manifest",
        "e2e",
    ];
    dependencies_outside(tree, &MAY, |name| {
        name.starts_with("kube") || name == "k8s-openapi"
    })
}

pub(crate) fn only_the_binary_ends_in_anyhow(tree: &Tree) -> Vec<Offence> {
    dependencies_outside(tree, &["shardwright"], |name| {
        ["anyhow", "eyre"].contains(&name)
    })
}

fn dependencies_outside(tree: &Tree, may: &[&str], bad: fn(&str) -> bool) -> Vec<Offence> {
    let mut found = Vec::new();
    for manifest in &tree.manifests {
        let Some(room) = room(&manifest.path).filter(|room| !may.contains(room)) else {
            continue;
        };
        for dependency in dependencies(manifest).iter().filter(|d| bad(d.name)) {
            found.push(offence(
                &manifest.path,
                format!("{room} uses {}", dependency.name),
            ));
        }
    }
    found
}

pub(crate) fn versions_stand_in_the_root_manifest_only(tree: &Tree) -> Vec<Offence> {
    let mut found = Vec::new();
    for manifest in tree
        .manifests
        .iter()
        .filter(|m| m.path.starts_with("crates/"))
    {
        for dependency in dependencies(manifest) {
            let inherits = dependency
                .value
                .get("workspace")
                .and_then(toml::Value::as_bool);
            let own = ["version", "path", "git"]
                .iter()
                .any(|k| dependency.value.get(k).is_some());
            if inherits != Some(true) || own {
                found.push(offence(&manifest.path, dependency.name));
            }
        }
    }
    found
}

pub(crate) fn every_crate_takes_the_lints_and_unsafe_is_forbidden(tree: &Tree) -> Vec<Offence> {
    let mut found = Vec::new();
    for manifest in &tree.manifests {
        let look = |path: &[&str]| {
            let (first, rest) = path.split_first()?;
            rest.iter()
                .try_fold(manifest.table.get(*first)?, |value, key| value.get(key))
        };
        if manifest.path == "Cargo.toml" {
            let level = look(&["workspace", "lints", "rust", "unsafe_code"]);
            if level.and_then(toml::Value::as_str) != Some("forbid") {
                found.push(offence(&manifest.path, "unsafe_code is not forbidden"));
            }
        } else if manifest.path.starts_with("crates/")
            && look(&["lints", "workspace"]).and_then(toml::Value::as_bool) != Some(true)
        {
            found.push(offence(&manifest.path, "no `[lints] workspace = true`"));
        }
    }
    found
}
