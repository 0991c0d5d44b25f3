//! Declare a sharded Redis or Valkey cluster once; it is formed, grown, rolled and healed.

mod cli;
mod commands;
mod connect;
mod exit;
mod printer;
mod progress;
mod report;
mod status;
mod stop;
mod target;
mod yaml;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;
use crate::exit::ExitStatus;
use crate::printer::Printer;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut out = Printer::new(cli.global.output);
    match commands::run(cli, &mut out) {
        Ok(status) => status.into(),
        Err(error) => {
            let status = ExitStatus::of(&error);
            out.error(&error);
            status.into()
        }
    }
}
