//! The cases on the Kubernetes that KUBECONFIG names.
//!
//!   cargo test -p shardwright-e2e --test kubernetes -- [NAME...]
//!
//! Cases whose names contain one of the words; all of them by default. `--list` lists them. With
//! `E2E_KEEP` set, what failed is left standing.

#![expect(
    clippy::print_stdout,
    reason = "a test's own runner tells how the cases ended"
)]

mod apart;
mod article;
mod deletion;
mod disturbed;
mod edits;
mod evictions;
mod failures;
mod outside;
mod passwords;
mod refused;
mod shape;

use std::process::ExitCode;
use std::time::Instant;

use shardwright_e2e::case::{Case, Company, Ended, run_all};
use shardwright_e2e::faults::Machine;
use shardwright_e2e::operator::Operator;
use shardwright_e2e::table::render;
use shardwright_e2e::{Error, Kind, Kube, Result};
use shardwright_testkit::skip::skipped;

/// A case from an async function of that name; its own name has dashes.
macro_rules! case {
    ($company:ident $room:ident :: $function:ident as $name:literal) => {
        case!($company $room :: $function as $name in "")
    };
    ($company:ident $room:ident :: $function:ident as $name:literal in $namespace:literal) => {
        Case {
            name: $name,
            namespace: $namespace,
            company: Company::$company,
            run: |world| Box::pin($room::$function(world)),
        }
    };
}

const CASES: &[Case] = &[
    case!(Beside article::article as "article" in "redis"),
    case!(BesideOnTheMachine failures::killed_primaries as "killed-primaries"),
    case!(Beside failures::deleted_pods as "deleted-pods"),
    case!(Beside failures::drained as "drained"),
    case!(Beside evictions::while_copying as "evicted-while-copying"),
    case!(Beside evictions::deleted_while_copying as "deleted-while-copying"),
    case!(Beside failures::all_pods as "all-pods"),
    case!(Beside failures::one_late as "one-late"),
    case!(Beside failures::volume_gone as "volume-gone"),
    case!(BesideOnTheMachine failures::no_persistence as "no-persistence"),
    case!(Beside apart::two_at_once as "two-at-once"),
    case!(BesideOnTheMachine apart::reused_addresses as "reused-addresses"),
    case!(Beside deletion::retained as "retained"),
    case!(Beside deletion::retained_fewer as "retained-fewer"),
    case!(Beside deletion::wiped as "wiped"),
    case!(Beside deletion::released as "released"),
    case!(Beside deletion::namespace as "namespace-deleted"),
    case!(Beside edits::invalid as "invalid"),
    case!(Beside edits::reverted as "reverted"),
    case!(Beside edits::taken_back as "taken-back"),
    case!(Beside edits::not_applied as "not-applied"),
    case!(Beside edits::misspelled as "misspelled"),
    case!(Beside edits::refused_at_start as "refused-at-start"),
    case!(Beside edits::paused as "paused"),
    case!(Beside edits::expanded as "expanded"),
    case!(Beside passwords::changed as "passwords-changed"),
    case!(Beside refused::by_a_quota as "refused-pod"),
    case!(Beside outside::rights as "rights"),
    case!(Beside outside::rendered as "rendered"),
    case!(Beside outside::plugin as "plugin"),
    case!(Beside shape::scaled as "scaled-by-keys"),
    case!(Beside shape::scaled_by_valkey as "scaled-by-valkey"),
    case!(Beside shape::scaled_and_reverted as "scaled-and-reverted"),
    case!(Beside shape::scaled_scattered as "scaled-scattered"),
    case!(Beside shape::paused_and_cancelled as "moves-paused"),
    case!(Alone shape::scaled_operator_killed as "scaled-operator-killed"),
    case!(Alone disturbed::operator_killed as "operator-killed"),
    case!(AloneOnTheMachine disturbed::operator_away as "operator-away"),
    case!(AloneOnTheMachine disturbed::api_away as "api-away"),
    case!(AloneOnTheMachine disturbed::node_cut as "node-cut"),
    case!(AloneOnTheMachine disturbed::operator_cut as "operator-cut"),
    case!(AloneOnTheMachine disturbed::majority_cut as "majority-cut"),
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--list") {
        for case in CASES {
            println!("{}: test", case.name);
        }
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<&str> = words
        .iter()
        .map(String::as_str)
        .filter(|w| !w.starts_with('-'))
        .collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("the executor starts");
    match runtime.block_on(run(&wanted)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("the cases could not be run: {}", error.with_causes());
            println!("test result: FAILED. 0 passed; 1 failed; 0 ignored;");
            ExitCode::FAILURE
        }
    }
}

async fn run(wanted: &[&str]) -> Result<bool> {
    let start = Instant::now();
    let kube = match Kube::connect().await {
        Ok(kube) => kube,
        Err(Error::NoKubernetes(why)) => {
            skipped(
                "cases on Kubernetes",
                &format!("no Kubernetes reachable ({why})"),
            );
            return Ok(true);
        }
        Err(error) => return Err(error),
    };
    nobody_elses(&kube).await?;
    let mut cases: Vec<Case> = CASES
        .iter()
        .filter(|case| wanted.is_empty() || wanted.iter().any(|word| case.name.contains(word)))
        .copied()
        .collect();
    if Machine::of(&kube).is_none() {
        cases.retain(|case| {
            let elsewhere = matches!(
                case.company,
                Company::AloneOnTheMachine | Company::BesideOnTheMachine
            );
            if elsewhere {
                skipped(
                    case.name,
                    "its faults need root on the machine that the Kubernetes runs on",
                );
            }
            !elsewhere
        });
    }
    let operator = Operator::install(&kube).await?;
    println!("running {} cases", cases.len());
    let ended = run_all(&kube, Some(&operator), &cases, say).await;
    Ok(report(&ended, start))
}

/// The cases kill and delete: they stay away from a Kubernetes with somebody's clusters, unless
/// `E2E_AMONG_OTHERS` is set.
async fn nobody_elses(kube: &Kube) -> Result<()> {
    if std::env::var_os("E2E_AMONG_OTHERS").is_some() {
        return Ok(());
    }
    if kube
        .get(Kind::DEFINITION, "", "redisclusters.shardwright.dev")
        .await?
        .is_none()
    {
        return Ok(());
    }
    for object in kube.list(Kind::CLUSTER, "", "").await? {
        let namespace = object
            .pointer("/metadata/namespace")
            .and_then(serde_json::Value::as_str);
        let namespace = namespace.unwrap_or("").to_owned();
        let ours =
            CASES.iter().any(|case| case.namespace == namespace) || namespace.starts_with("e2e-");
        shardwright_e2e::error::ensure(ours, || {
            format!(
                "namespace {namespace} holds a cluster that is not of these cases: run them on another Kubernetes"
            )
        })?;
    }
    Ok(())
}

fn say(ended: &Ended) {
    let seconds = ended.took.as_secs_f64();
    match &ended.failure {
        None => println!("test kubernetes::{} ... ok ({seconds:.1} s)", ended.name),
        Some(failure) => println!(
            "test kubernetes::{} ... FAILED ({seconds:.1} s)\n{failure}\n",
            ended.name
        ),
    }
}

fn report(ended: &[Ended], start: Instant) -> bool {
    let figures: Vec<_> = ended.iter().flat_map(|one| one.figures.clone()).collect();
    println!("\n{}", render(&figures));
    let failed: Vec<_> = ended.iter().filter(|one| one.failure.is_some()).collect();
    for one in &failed {
        let why = one.failure.as_deref().and_then(|text| text.lines().next());
        println!(
            "failed: kubernetes::{}: {}",
            one.name,
            why.unwrap_or("for no reason that was told")
        );
    }
    let result = if failed.is_empty() { "ok" } else { "FAILED" };
    println!(
        "test result: {result}. {} passed; {} failed; 0 ignored; finished in {:.0}s",
        ended.len() - failed.len(),
        failed.len(),
        start.elapsed().as_secs_f64()
    );
    failed.is_empty()
}
