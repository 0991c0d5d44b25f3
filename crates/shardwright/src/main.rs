//! Declare a sharded Redis or Valkey cluster once; it is formed, grown, rolled and healed.

mod cli;
mod commands;
mod connect;
mod exit;
mod hint;
mod kubernetes;
mod moves;
mod plugin;
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
use crate::printer::{Output, Printer};

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    let cli = if plugin::is_called(args.first().map(AsRef::as_ref)) {
        plugin::parse(args)
    } else {
        Ok(Cli::parse_from(args))
    };
    let output = cli.as_ref().map_or(Output::Table, |cli| cli.global.output);
    let mut out = Printer::new(output);
    let ended = match cli {
        Ok(cli) => commands::run(cli, &mut out),
        Err(error) => Err(error.into()),
    };
    match ended {
        Ok(status) => status.into(),
        Err(error) => {
            let status = ExitStatus::of(&error);
            out.error(&error);
            status.into()
        }
    }
}
