//! The rules about sources and documents. Each reads a tree and returns what offends it.

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::tree::{Source, Tree};

/// Reads a tree, returns the offenders.
pub(crate) type Rule = fn(&Tree) -> Vec<Offence>;

/// One place that breaks a rule.
#[derive(Debug)]
pub(crate) struct Offence {
    /// `path` or `path:line`.
    pub(crate) at: String,
    /// What stands there.
    pub(crate) what: String,
}

/// Makes an offence.
pub(crate) fn offence(at: impl Into<String>, what: impl Into<String>) -> Offence {
    Offence {
        at: at.into(),
        what: what.into(),
    }
}

/// The hard limits; the aims are 600 and 70.
pub(crate) const FILE_LINES_MAX: usize = 650;
/// With signature, without documentation and attributes.
pub(crate) const FUNCTION_LINES_MAX: usize = 80;

/// Rooms without IO.
pub(crate) const PURE: [&str; 3] = ["topology", "planner", "sim"];

/// The protocol's words for primary and replica.
pub(crate) const WIRE_WORDS: [&str; 2] = ["master", "slave"];

/// Where the wire words may stand.
const WIRE: [&str; 9] = [
    "crates/engine/",
    "crates/topology/src/wire.rs",
    "crates/topology/src/wire/",
    // Replies of real servers, as bytes.
    "crates/topology/tests/",
    "crates/topology/examples/",
    "fuzz/",
    // The one spot of the manifest that spells what the servers read in redis.conf.
    "crates/manifest/src/wire_words.rs",
    // The one spot of the node's program, which reads `nodes.conf` and `ROLE` without any other crate.
    "crates/node/src/wire_words.rs",
    // Asks real servers by itself, so that no test trusts the code it tests.
    "crates/testkit/",
];

/// Configuration keys and flags of redis-cli that hold a wire word in their name; whoever writes a redis.conf, refuses
/// a key by name or understands that flag may spell these, and nothing else.
const WIRE_KEYS: [&str; 6] = [
    "cluster-only-masters",
    "cluster-use-empty-masters",
    "masterauth",
    "masteruser",
    "masteruser/masterauth",
    "masterauth/masteruser",
];
const MAY_NAME_WIRE_KEYS: [&str; 3] = [
    "crates/manifest/",
    "crates/runtime-local/tests/",
    "crates/shardwright/src/cli/",
];

/// Files that may pause between two looks, and why.
const MAY_PAUSE: &[(&str, &str)] = &[
    (
        "crates/runtime/src/duplicates/remade.rs",
        "tables that change many times a second are read until they show both addresses, 2 s at most",
    ),
    (
        "crates/runtime/src/moving.rs",
        "how much a source gives in a second at most is what a person asked for (--bandwidth)",
    ),
    (
        "crates/testkit/src/wait.rs",
        "the one polling loop of the tests, with a deadline",
    ),
    (
        "crates/testkit/src/load.rs",
        "the pace of a load is what it is asked for",
    ),
    (
        "crates/testkit/src/kills.rs",
        "how long a killed server stays away is drawn, and is what is tested",
    ),
    (
        "crates/e2e/src/wait.rs",
        "the same for the cases on Kubernetes, where a look costs the API server something",
    ),
    (
        "crates/runtime/src/keeper.rs",
        "the pause between two passes, which any hint ends",
    ),
    (
        "crates/engine/src/movers/key_wise.rs",
        "leaves a server to its clients as long as the pace says, and tries again what a busy one refused",
    ),
    (
        "crates/engine/src/movers/native.rs",
        "the time between two looks, by which it is seen what clients ask in it",
    ),
    (
        "crates/shardwright/src/commands/status.rs",
        "the time between two looks that a person asked for (--watch)",
    ),
    (
        "crates/shardwright/src/commands/import.rs",
        "leaves the source to its clients as long as the pace says",
    ),
    (
        "crates/node/src/prestop.rs",
        "asks its own server for its role until a deadline; there is nothing to be woken by",
    ),
];

/// Defaults that are no facts: file, what stands on the line, and why it is right.
const MAY_DEFAULT: &[(&str, &str, &str)] = &[
    (
        "crates/topology/src/wire/nodes.rs",
        "extra.next().unwrap_or_default()",
        "splitting always yields a first part",
    ),
    (
        "crates/topology/src/wire/shards.rs",
        "near.map(Reply::excerpt).unwrap_or_default()",
        "the excerpt in an error message; without one there is nothing to quote",
    ),
    (
        "crates/engine/src/error.rs",
        "is_char_boundary",
        "where a text is cut; 0 is always a boundary",
    ),
];

/// Paths that rules name; each must hold sources, or a rule would look at nothing.
pub(crate) const PATHS_NAMED_BY_RULES: &[&str] = &[
    "crates/topology/src/wire",
    "crates/planner/src/safety",
    "crates/engine/src/",
    "crates/runtime/src/",
    "crates/runtime-local/src/",
    "crates/shardwright/src/",
    "crates/sim/src/bin/",
    "crates/testkit/src/wait.rs",
    "crates/manifest/src/wire_words.rs",
    "crates/node/src/wire_words.rs",
    "crates/node/src/prestop.rs",
];

/// The crate a path below `crates/` belongs to.
pub(crate) fn room(path: &str) -> Option<&str> {
    match path.strip_prefix("crates/") {
        Some(rest) => rest.split('/').next(),
        None => path.starts_with("fuzz/").then_some("fuzz"),
    }
}

pub(crate) fn pure_rooms_read_no_clock_no_environment_and_no_hash_order(
    tree: &Tree,
) -> Vec<Offence> {
    const NEVER: [&str; 11] = [
        "Instant",
        "SystemTime",
        "HashMap",
        "HashSet",
        "RandomState",
        "tokio",
        "kube",
        "tracing",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
    ];
    // Modules of std: only as part of a path or a `use`, for the names are ordinary words.
    // `std::net` is not among them: an address is a value, and the sockets are named above.
    const MODULES: [&str; 4] = ["env", "fs", "process", "thread"];
    let mut found = Vec::new();
    for source in &tree.sources {
        let pure = room(&source.path).is_some_and(|room| PURE.contains(&room));
        if !pure || !source.path.contains("/src/") || source.is_bin() {
            continue;
        }
        for (index, token) in source.tokens.iter().enumerate() {
            let before = |by: usize| {
                index
                    .checked_sub(by)
                    .map(|i| source.tokens[i].text.as_str())
            };
            let of_std = before(1) == Some("::") && before(2) == Some("std");
            let module = MODULES.contains(&token.text.as_str()) && of_std;
            if (module || NEVER.contains(&token.text.as_str())) && !source.is_test(token.line) {
                found.push(offence(source.at(token.line), &token.text));
            }
        }
        // `use std::{env, …}`: the module does not follow `std::` directly.
        for (line, path) in uses(source) {
            let mut parts = path.split("::");
            let from_std = parts.next() == Some("std");
            let module = parts.next().is_some_and(|module| MODULES.contains(&module));
            if from_std && module && !source.is_test(line) {
                found.push(offence(source.at(line), path));
            }
        }
    }
    found
}

/// Every path that the file's `use` items name, `::` between the parts.
fn uses(source: &Source) -> Vec<(usize, String)> {
    struct Uses(Vec<(usize, String)>);
    impl<'ast> Visit<'ast> for Uses {
        fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
            spell(&item.tree, "", &mut self.0);
        }
    }
    fn spell(tree: &syn::UseTree, prefix: &str, out: &mut Vec<(usize, String)>) {
        let line = |span: Span| span.start().line;
        match tree {
            syn::UseTree::Path(path) => {
                spell(&path.tree, &format!("{prefix}{}::", path.ident), out);
            }
            syn::UseTree::Name(name) => {
                out.push((line(name.span()), format!("{prefix}{}", name.ident)));
            }
            syn::UseTree::Rename(name) => {
                out.push((line(name.span()), format!("{prefix}{}", name.ident)));
            }
            syn::UseTree::Glob(glob) => out.push((line(glob.span()), format!("{prefix}*"))),
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    spell(tree, prefix, out);
                }
            }
        }
    }
    let mut finder = Uses(Vec::new());
    finder.visit_file(&source.ast);
    finder.0
}

pub(crate) fn the_wire_words_stay_with_the_wire(tree: &Tree) -> Vec<Offence> {
    let mut found = Vec::new();
    for source in &tree.sources {
        // The rule itself has to name them.
        let exempt = source.path.starts_with("tests/architecture");
        if exempt || WIRE.iter().any(|path| source.path.starts_with(path)) {
            continue;
        }
        let may_name_keys = MAY_NAME_WIRE_KEYS
            .iter()
            .any(|path| source.path.starts_with(path));
        for (index, line) in source.text.lines().enumerate() {
            for word in line.split(|c: char| !c.is_ascii_alphanumeric() && !"_-/".contains(c)) {
                let lower = word.to_ascii_lowercase();
                let key = may_name_keys && WIRE_KEYS.contains(&lower.as_str());
                if !key && WIRE_WORDS.iter().any(|wire| lower.contains(wire)) {
                    found.push(offence(source.at(index + 1), word));
                }
            }
        }
    }
    found
}

pub(crate) fn only_the_binary_prints(tree: &Tree) -> Vec<Offence> {
    let mut found = Vec::new();
    for source in &tree.sources {
        if source.path.starts_with("crates/shardwright/src/") || source.is_bin() {
            continue;
        }
        for name in ["println", "print", "eprintln", "eprint", "dbg"] {
            for line in source.find(&[name, "!"]) {
                if !source.is_test(line) {
                    found.push(offence(source.at(line), format!("{name}!")));
                }
            }
        }
    }
    found
}

pub(crate) fn modules_are_named_for_what_they_hold(tree: &Tree) -> Vec<Offence> {
    const BAD: [&str; 6] = ["mod", "utils", "util", "common", "helpers", "types"];
    let mut found = Vec::new();
    for source in &tree.sources {
        let names = source.path.trim_end_matches(".rs").split('/');
        for name in names.filter(|name| BAD.contains(name)) {
            found.push(offence(&source.path, format!("`{name}` says nothing")));
        }
        for name in BAD {
            for line in source.find(&["mod", name]) {
                found.push(offence(source.at(line), format!("mod {name}")));
            }
        }
    }
    found
}

pub(crate) fn files_and_functions_fit_the_eye(tree: &Tree) -> Vec<Offence> {
    struct Functions<'a>(&'a Source, Vec<Offence>);
    impl Functions<'_> {
        fn measure(&mut self, signature: &syn::Signature, block: &syn::Block) {
            let (first, last) = (signature.span().start().line, block.span().end().line);
            let lines = last + 1 - first;
            if lines > FUNCTION_LINES_MAX {
                let what = format!("fn {} has {lines} lines", signature.ident);
                self.1.push(offence(self.0.at(first), what));
            }
        }
    }
    impl<'ast> Visit<'ast> for Functions<'_> {
        fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
            self.measure(&item.sig, &item.block);
            visit::visit_item_fn(self, item);
        }
        fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
            self.measure(&item.sig, &item.block);
            visit::visit_impl_item_fn(self, item);
        }
        fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
            if let Some(block) = &item.default {
                self.measure(&item.sig, block);
            }
            visit::visit_trait_item_fn(self, item);
        }
    }
    let mut found = Vec::new();
    for source in &tree.sources {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            found.push(offence(&source.path, format!("{lines} lines")));
        }
        let mut functions = Functions(source, Vec::new());
        functions.visit_file(&source.ast);
        found.append(&mut functions.1);
    }
    found
}

pub(crate) fn effects_are_never_dropped(tree: &Tree) -> Vec<Offence> {
    let mut found = Vec::new();
    for source in &tree.sources {
        for line in [
            source.find(&["let", "_", "="]),
            source.find(&["let", "_", ":"]),
        ]
        .concat()
        {
            if !source.is_test(line) {
                found.push(offence(source.at(line), "let _ ="));
            }
        }
    }
    found
}

pub(crate) fn unknown_is_never_a_default(tree: &Tree) -> Vec<Offence> {
    const WHERE: [&str; 4] = ["planner", "topology", "runtime", "engine"];
    let mut found = Vec::new();
    for source in &tree.sources {
        if !room(&source.path).is_some_and(|room| WHERE.contains(&room)) {
            continue;
        }
        // The greatest of our own list is 0 where the list is empty: no fact is missing.
        let greatest = source.find(&["max", "(", ")", ".", "unwrap_or", "(", "0", ")"]);
        let patterns: [&[&str]; 3] = [
            &["unwrap_or_default"],
            &["unwrap_or", "(", "0", ")"],
            &["unwrap_or", "(", "false", ")"],
        ];
        for pattern in patterns {
            for line in source.find(pattern) {
                // rustfmt may have broken the statement into lines.
                let lines = source.text.lines().skip(line.saturating_sub(4));
                let text: String = lines.take(line.min(4)).map(str::trim).collect();
                let known = MAY_DEFAULT
                    .iter()
                    .any(|(path, part, _)| *path == source.path && text.contains(part));
                if !known && !greatest.contains(&line) && !source.is_test(line) {
                    found.push(offence(source.at(line), pattern.concat()));
                }
            }
        }
    }
    found
}

pub(crate) fn safety_lists_every_case(tree: &Tree) -> Vec<Offence> {
    let mut found = Vec::new();
    for source in &tree.sources {
        if !source.path.starts_with("crates/planner/src/safety") {
            continue;
        }
        for line in [source.find(&["_", "=", ">"]), source.find(&["_", "if"])].concat() {
            found.push(offence(source.at(line), "a `_` arm"));
        }
    }
    found
}

pub(crate) fn nobody_sleeps_to_be_in_time(tree: &Tree) -> Vec<Offence> {
    let mut found = Vec::new();
    for source in &tree.sources {
        if MAY_PAUSE.iter().any(|(path, _)| *path == source.path) {
            continue;
        }
        for module in ["thread", "time"] {
            for name in ["sleep", "sleep_until", "sleep_ms"] {
                for line in source.find(&[module, "::", name]) {
                    found.push(offence(source.at(line), format!("{module}::{name}")));
                }
            }
        }
        for (line, path) in uses(source) {
            if path.contains("::sleep") && !path.starts_with("crate::") {
                found.push(offence(source.at(line), path));
            }
        }
    }
    found
}

pub(crate) fn the_runtimes_call_no_command_line_client(tree: &Tree) -> Vec<Offence> {
    let mut found = Vec::new();
    for source in &tree.sources {
        // The bench compares with redis-cli, and tests check against it.
        if room(&source.path) == Some("testkit") {
            continue;
        }
        for client in ["\"redis-cli\"", "\"valkey-cli\"", "\"kubectl\""] {
            for line in source.find(&["Command", "::", "new", "(", client]) {
                if !source.is_test(line) {
                    found.push(offence(source.at(line), client));
                }
            }
        }
    }
    found
}

pub(crate) fn documented_verbs_exist(tree: &Tree) -> Vec<Offence> {
    let mut found = Vec::new();
    for (path, text) in &tree.documents {
        for (index, line) in text.lines().enumerate() {
            // In code spans, and at the start of lines of a code block.
            let spans = line.split('`').skip(1).step_by(2);
            for code in spans.chain([line.trim_start_matches("$ ")]) {
                let Some(rest) = code.strip_prefix("make ") else {
                    continue;
                };
                let verb = rest
                    .split(' ')
                    .next()
                    .map(|word| word.trim_end_matches('.'));
                if let Some(verb) = verb.filter(|verb| !tree.verbs.iter().any(|v| v == verb)) {
                    found.push(offence(
                        format!("{path}:{}", index + 1),
                        format!("make {verb}"),
                    ));
                }
            }
        }
    }
    found
}
