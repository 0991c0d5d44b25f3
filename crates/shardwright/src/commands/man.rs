//! `man` and `completions`: what shells and readers of manuals want of this program, from its own grammar.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::Context;
use clap::CommandFactory;
use clap_mangen::Man as Page;

use crate::cli::{Cli, Completions, Man};
use crate::exit::ExitStatus;
use crate::printer::Printer;

pub(super) fn run(args: &Man, out: &mut Printer) -> anyhow::Result<ExitStatus> {
    let Some(dir) = &args.dir else {
        let mut page = Vec::new();
        Page::new(Cli::command()).render(&mut page)?;
        out.page(String::from_utf8(page)?.trim_end())?;
        return Ok(ExitStatus::Success);
    };
    let failed = || format!("cannot write manual pages into {}", dir.display());
    out.record.begin();
    let count = write_all(dir).with_context(failed)?;
    out.record.changed(true);
    out.done(&format!("[OK] {count} pages in {}", dir.display()));
    Ok(ExitStatus::Success)
}

/// Writes the page of the program and one for each verb; says how many.
fn write_all(dir: &Path) -> io::Result<usize> {
    fs::create_dir_all(dir)?;
    clap_mangen::generate_to(Cli::command(), dir)?;
    let verbs = Cli::command();
    Ok(verbs.get_subcommands().filter(|v| !v.is_hide_set()).count() + 1)
}

pub(super) fn completions(args: &Completions, out: &mut Printer) -> anyhow::Result<ExitStatus> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "shardwright", &mut script);
    out.page(String::from_utf8(script)?.trim_end())?;
    Ok(ExitStatus::Success)
}
