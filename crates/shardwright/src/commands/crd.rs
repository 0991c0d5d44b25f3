//! `crd`: the definition of a `RedisCluster` for Kubernetes.

use shardwright_manifest::{Cel, crd};

use crate::cli::CrdArgs;
use crate::exit::ExitStatus;
use crate::printer::Printer;
use crate::yaml;

pub(super) fn run(args: &CrdArgs, out: &mut Printer) -> anyhow::Result<ExitStatus> {
    let cel = if args.without_cel {
        Cel::Without
    } else {
        Cel::With
    };
    let definition = crd(cel);
    if out.is_json() {
        out.document(&definition)?;
    } else {
        out.text(&yaml::documents([&definition])?)?;
    }
    Ok(ExitStatus::Success)
}
