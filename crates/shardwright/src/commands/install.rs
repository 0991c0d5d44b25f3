//! `install`: everything that the operator needs, for `kubectl apply`.

use serde_json::json;
use shardwright_manifest::{Cel, crd, has_admission_policies};
use shardwright_operator::install::{Options, objects};

use super::crd::version_for;
use crate::cli::Install;
use crate::exit::ExitStatus;
use crate::printer::Printer;
use crate::yaml;

/// Where the images of releases are.
const IMAGE: &str = "ghcr.io/shardwright/shardwright";

pub(super) fn run(args: Install, out: &mut Printer) -> anyhow::Result<ExitStatus> {
    let kubernetes = version_for(&args.rules)?;
    let options = Options {
        namespace: args.namespace,
        image: args
            .image
            .unwrap_or_else(|| format!("{IMAGE}:{}", env!("CARGO_PKG_VERSION"))),
        watched: args.watch_namespace,
        admission_policies: has_admission_policies(kubernetes),
        priority_class: args.priority_class,
    };
    let objects = objects(&options, crd(Cel::of_version(kubernetes)));
    if out.is_json() {
        out.document(&json!({ "apiVersion": "v1", "kind": "List", "items": objects }))?;
    } else {
        out.text(&yaml::documents(&objects)?)?;
    }
    Ok(ExitStatus::Success)
}
