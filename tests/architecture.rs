//! The invariants of `ARCHITECTURE.md` that can be read off the sources and manifests.
//!
//! Each rule is one test. A rule first has to find its own bad examples, so that it is
//! known to be able to fail; then it reads the tree and prints every offender with its line.

#[path = "architecture/manifests.rs"]
mod manifests;
#[path = "architecture/rules.rs"]
mod rules;
#[path = "architecture/tree.rs"]
mod tree;

use rules::Rule;
use tree::Tree;

/// Asserts that `rule` finds something in each bad example, nothing in each good one, and
/// nothing in the workspace. `advice` says what to do about an offender.
#[track_caller]
fn enforce(rule: Rule, bad: &[(&str, &str)], good: &[(&str, &str)], advice: &str) {
    for (path, text) in bad {
        let found = rule(&Tree::example(path, text));
        assert!(
            found.iter().any(|offence| offence.at.starts_with(path)),
            "this rule no longer finds its bad example, {path}: {text}\nfound: {found:?}"
        );
    }
    for (path, text) in good {
        let found = rule(&Tree::example(path, text));
        let wrong: Vec<_> = found
            .iter()
            .filter(|offence| offence.at.starts_with(path))
            .collect();
        assert!(
            wrong.is_empty(),
            "this rule accuses a good example, {path}: {text}\n{wrong:?}"
        );
    }
    let found = rule(&Tree::workspace());
    let list: Vec<String> = found
        .iter()
        .map(|o| format!("  {}: {}", o.at, o.what))
        .collect();
    assert!(list.is_empty(), "{advice}\n{}", list.join("\n"));
}

const PLANNER: &str = "crates/planner/src/heal.rs";
const ENGINE: &str = "crates/engine/src/admin.rs";
const MANIFEST_OF_PLANNER: &str = "crates/planner/Cargo.toml";

#[test]
fn the_rules_look_at_something() {
    let tree = Tree::workspace();
    assert!(
        tree.sources.len() > 20,
        "only {} sources found",
        tree.sources.len()
    );
    assert!(
        tree.manifests.len() > 8,
        "only {} manifests found",
        tree.manifests.len()
    );
    let missing: Vec<_> = rules::PATHS_NAMED_BY_RULES
        .iter()
        .filter(|path| {
            !tree
                .sources
                .iter()
                .any(|source| source.path.starts_with(**path))
        })
        .collect();
    assert!(
        missing.is_empty(),
        "rules name paths that hold no sources; a move needs the rule moved too: {missing:?}"
    );
}

#[test]
fn rooms_use_only_the_rooms_below_them() {
    enforce(
        manifests::rooms_use_only_the_rooms_below_them,
        &[
            (
                MANIFEST_OF_PLANNER,
                "[dependencies]\nshardwright-engine.workspace = true",
            ),
            (
                MANIFEST_OF_PLANNER,
                "[dev-dependencies]\nshardwright-runtime.workspace = true",
            ),
            (
                "crates/engine/Cargo.toml",
                "[dependencies]\nshardwright-testkit.workspace = true",
            ),
            ("crates/utils/Cargo.toml", "[dependencies]"),
        ],
        &[
            (
                MANIFEST_OF_PLANNER,
                "[dependencies]\nshardwright-topology.workspace = true",
            ),
            (
                "crates/engine/Cargo.toml",
                "[dev-dependencies]\nshardwright-testkit.workspace = true",
            ),
        ],
        "A crate uses a room it may not. Move the code to the room that may, or pass a value in; \
         the table is ROOMS in tests/architecture/manifests.rs and in ARCHITECTURE.md.",
    );
}

#[test]
fn pure_rooms_have_no_io_in_their_dependencies() {
    enforce(
        manifests::pure_rooms_have_no_io_in_their_dependencies,
        &[
            (
                MANIFEST_OF_PLANNER,
                "[dependencies]\ntokio.workspace = true",
            ),
            (
                "crates/sim/Cargo.toml",
                "[dependencies]\ntracing = { workspace = true }",
            ),
        ],
        &[(
            "crates/sim/Cargo.toml",
            "[dependencies]\nrand.workspace = true",
        )],
        "topology, planner and sim are pure: no runtime, no client, no clock, no logging. \
         Pass time, randomness and replies in as values.",
    );
}

#[test]
fn pure_rooms_read_no_clock_no_environment_and_no_hash_order() {
    enforce(
        rules::pure_rooms_read_no_clock_no_environment_and_no_hash_order,
        &[
            (PLANNER, "fn f() { let t = std::time::Instant::now(); }"),
            (PLANNER, "use std::time::{Duration, SystemTime};"),
            (PLANNER, "use std::{env, fmt};"),
            (PLANNER, "fn f() { std::env::var(\"X\"); }"),
            (PLANNER, "use std::collections::HashMap;"),
            (PLANNER, "use tokio::time;"),
            (
                "crates/topology/src/merge.rs",
                "fn f() { tracing::info!(\"seen\"); }",
            ),
            (
                "crates/sim/src/world.rs",
                "fn f() { std::fs::read(\"x\"); }",
            ),
        ],
        &[
            (
                PLANNER,
                "use std::time::Duration; // an Instant would be wrong",
            ),
            (PLANNER, "#[cfg(test)] mod tests { use std::env; }"),
            (
                "crates/sim/src/bin/sim.rs",
                "fn main() { std::env::args(); }",
            ),
        ],
        "Same input, byte-same plan: no clock, environment, files, logging or hash order in \
         topology, planner and sim. Take the value as an argument; use BTreeMap and BTreeSet.",
    );
}

#[test]
fn the_wire_words_stay_with_the_wire() {
    let word = rules::WIRE_WORDS[0];
    let key = format!("fn f() -> &'static str {{ \"{word}auth\" }}");
    let plain = format!("// the {word} of this shard");
    let flag = format!("const FLAG: &str = \"myself,{word}\";");
    enforce(
        rules::the_wire_words_stay_with_the_wire,
        &[
            (PLANNER, &plain),
            ("crates/manifest/src/redis_conf.rs", &flag),
            (PLANNER, &key),
        ],
        &[
            ("crates/manifest/src/redis_conf.rs", &key),
            (ENGINE, &flag),
            ("crates/topology/src/wire/nodes.rs", &flag),
        ],
        "Say primary and replica. The protocol's own words stand only in crates/engine and in \
         crates/topology/src/wire; configuration keys only where they are rendered.",
    );
}

#[test]
fn only_the_kubernetes_rooms_know_kube() {
    enforce(
        manifests::only_the_kubernetes_rooms_know_kube,
        &[
            (
                "crates/runtime/Cargo.toml",
                "[dependencies]\nkube.workspace = true",
            ),
            (
                "crates/engine/Cargo.toml",
                "[dependencies]\nk8s-openapi.workspace = true",
            ),
        ],
        &[(
            "crates/operator/Cargo.toml",
            "[dependencies]\nkube.workspace = true",
        )],
        "Only runtime-kubernetes, operator and the binary use kube; manifest may derive the CRD.",
    );
}

#[test]
fn only_the_binary_ends_in_anyhow() {
    enforce(
        manifests::only_the_binary_ends_in_anyhow,
        &[(
            "crates/engine/Cargo.toml",
            "[dependencies]\nanyhow.workspace = true",
        )],
        &[(
            "crates/shardwright/Cargo.toml",
            "[dependencies]\nanyhow.workspace = true",
        )],
        "Libraries have a thiserror enum per module, so that a kind can be matched on.",
    );
}

#[test]
fn versions_stand_in_the_root_manifest_only() {
    enforce(
        manifests::versions_stand_in_the_root_manifest_only,
        &[
            (MANIFEST_OF_PLANNER, "[dependencies]\nserde = \"1\""),
            (
                MANIFEST_OF_PLANNER,
                "[dev-dependencies]\ninsta = { version = \"1\" }",
            ),
            (
                MANIFEST_OF_PLANNER,
                "[dependencies]\nx = { path = \"../x\" }",
            ),
        ],
        &[(
            MANIFEST_OF_PLANNER,
            "[dependencies]\nserde = { workspace = true, features = [\"x\"] }",
        )],
        "Write `name.workspace = true` in the crate and the version in the root Cargo.toml.",
    );
}

#[test]
fn every_crate_takes_the_lints_and_unsafe_is_forbidden() {
    enforce(
        manifests::every_crate_takes_the_lints_and_unsafe_is_forbidden,
        &[
            (
                MANIFEST_OF_PLANNER,
                "[package]\nname = \"shardwright-planner\"",
            ),
            (
                "Cargo.toml",
                "[workspace.lints.rust]\nunsafe_code = \"warn\"",
            ),
        ],
        &[
            (MANIFEST_OF_PLANNER, "[lints]\nworkspace = true"),
            (
                "Cargo.toml",
                "[workspace.lints.rust]\nunsafe_code = \"forbid\"",
            ),
        ],
        "Every crate has `[lints] workspace = true`; the root says `unsafe_code = \"forbid\"`.",
    );
}

#[test]
fn only_the_binary_prints() {
    enforce(
        rules::only_the_binary_prints,
        &[
            (PLANNER, "fn f() { println!(\"done\"); }"),
            (ENGINE, "fn f() { std::eprintln!(\"done\"); }"),
            (ENGINE, "fn f() { dbg!(1); }"),
        ],
        &[
            (
                "crates/shardwright/src/printer.rs",
                "fn f() { println!(\"done\"); }",
            ),
            (
                "crates/sim/src/bin/sim.rs",
                "fn f() { println!(\"done\"); }",
            ),
            (
                ENGINE,
                "#[cfg(test)] mod tests { #[test] fn f() { println!(\"x\"); } }",
            ),
        ],
        "Libraries return values and emit tracing events; only crates/shardwright prints.",
    );
}

#[test]
fn modules_are_named_for_what_they_hold() {
    enforce(
        rules::modules_are_named_for_what_they_hold,
        &[
            ("crates/planner/src/heal/mod.rs", ""),
            ("crates/planner/src/utils.rs", ""),
            ("crates/engine/src/types/reply.rs", ""),
            (PLANNER, "mod helpers { fn f() {} }"),
        ],
        &[("crates/planner/src/heal/pairing.rs", "")],
        "No mod.rs (use foo.rs beside foo/), and no utils, common, helpers or types: name the \
         module for what it holds.",
    );
}

#[test]
fn files_and_functions_fit_the_eye() {
    let long_file = "// a line\n".repeat(rules::FILE_LINES_MAX + 1);
    let long_function = format!(
        "fn f() {{\n{}}}",
        "    g();\n".repeat(rules::FUNCTION_LINES_MAX)
    );
    let long_method = format!("struct S;\nimpl S {{\n{long_function}\n}}");
    let long_test = format!("#[cfg(test)]\nmod tests {{\n#[test]\n{long_function}\n}}");
    let good = format!(
        "fn f() {{\n{}}}",
        "    g();\n".repeat(rules::FUNCTION_LINES_MAX - 2)
    );
    enforce(
        rules::files_and_functions_fit_the_eye,
        &[
            (PLANNER, &long_file),
            (PLANNER, &long_function),
            (PLANNER, &long_method),
            (PLANNER, &long_test),
        ],
        &[(PLANNER, &good)],
        "Aim at 600 lines a file and 70 a function; these are past the hard limit. Split along \
         what changes together.",
    );
}

#[test]
fn effects_are_never_dropped() {
    enforce(
        rules::effects_are_never_dropped,
        &[
            (ENGINE, "fn f() { let _ = send(); }"),
            (ENGINE, "fn f() { let _: Result<(), E> = send(); }"),
        ],
        &[
            (ENGINE, "fn f() { let _guard = lock(); }"),
            (
                ENGINE,
                "#[cfg(test)] mod tests { fn f() { let _ = send(); } }",
            ),
        ],
        "`let _ =` hides an error. Handle it, return it, or log it with what it means.",
    );
}

#[test]
fn unknown_is_never_a_default() {
    enforce(
        rules::unknown_is_never_a_default,
        &[
            (PLANNER, "fn f() { offset.unwrap_or_default() }"),
            (ENGINE, "fn f() { keys.unwrap_or(0) }"),
            (ENGINE, "fn f() { up.unwrap_or(false) }"),
        ],
        &[
            (ENGINE, "fn f() { limit.unwrap_or(LIMIT) }"),
            (PLANNER, "fn f() { sizes.iter().max().unwrap_or(0) }"),
        ],
        "An unknown fact is a value, not 0, false or empty: match on it (`Seen`).",
    );
}

#[test]
fn safety_lists_every_case() {
    enforce(
        rules::safety_lists_every_case,
        &[
            (
                "crates/planner/src/safety.rs",
                "fn f(r: R) -> bool { match r { R::A => true, _ => false } }",
            ),
            (
                "crates/planner/src/safety/stop.rs",
                "fn f(r: R) { match r { _ if x() => {} R::A => {} } }",
            ),
        ],
        &[
            (
                "crates/planner/src/safety.rs",
                "fn f(r: R) { match r { R::A(_) => {} R::B => {} } }",
            ),
            (PLANNER, "fn f(r: R) { match r { _ => {} } }"),
        ],
        "No `_` arm in planner::safety: a new case must be thought about, not fall through.",
    );
}

#[test]
fn nobody_sleeps_to_be_in_time() {
    enforce(
        rules::nobody_sleeps_to_be_in_time,
        &[
            (ENGINE, "fn f() { std::thread::sleep(D); }"),
            (ENGINE, "async fn f() { tokio::time::sleep(D).await; }"),
            (ENGINE, "use tokio::time::{sleep, timeout};"),
            (
                "crates/engine/tests/live.rs",
                "fn f() { thread::sleep(D); }",
            ),
        ],
        &[(
            ENGINE,
            "async fn f() { tokio::time::timeout(D, g()).await; }",
        )],
        "Sleep is no synchronisation: wait for a condition with a deadline. Where a pause between \
         two looks is right, add the file and the reason to MAY_PAUSE.",
    );
}

#[test]
fn the_runtimes_call_no_command_line_client() {
    enforce(
        rules::the_runtimes_call_no_command_line_client,
        &[
            (
                "crates/runtime-local/src/node.rs",
                "fn f() { Command::new(\"redis-cli\").spawn(); }",
            ),
            (
                "crates/operator/src/main.rs",
                "fn f() { std::process::Command::new(\"kubectl\"); }",
            ),
        ],
        &[(
            "crates/runtime-local/src/node.rs",
            "fn f() { Command::new(server).spawn(); }",
        )],
        "Talk to servers through the engine crate and to Kubernetes through kube: a command line \
         client hides errors and puts passwords into argv.",
    );
}

#[test]
fn documented_verbs_exist() {
    enforce(
        rules::documented_verbs_exist,
        &[
            ("README.md", "Run `make nosuchverb` first."),
            ("README.md", "```\nmake alsonot SEEDS=1\n```"),
        ],
        &[("README.md", "We make clusters. Run `make test`.")],
        "A document names a verb that the Makefile does not have.",
    );
}
