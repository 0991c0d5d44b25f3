//! The door: parse, run, exit status. Everything is in the library.

use std::error::Error as _;
use std::io::Write;
use std::process::ExitCode;

use shardwright_node::args::{self, Command};
use shardwright_node::{Error, install, prestop, probe, run};

fn main() -> ExitCode {
    let result = args::parse(std::env::args_os().skip(1)).and_then(act);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut line = error.to_string();
            let mut source = error.source();
            while let Some(cause) = source {
                line = format!("{line}: {cause}");
                source = cause.source();
            }
            log(&line);
            ExitCode::from(error.status())
        }
    }
}

fn act(command: Command) -> Result<(), Error> {
    match command {
        Command::Help => print(args::HELP),
        Command::Version => print(concat!(
            "shardwright-node ",
            env!("CARGO_PKG_VERSION"),
            "\n"
        )),
        Command::Install(dest) => install::install(&dest)?,
        Command::Run(options, server) => run::run(&options, &server, log)?,
        Command::Started(options) => probe::started(&options)?,
        Command::Ready(options) => probe::ready(&options, log)?,
        Command::Live(options) => probe::live(&options, log)?,
        Command::Prestop(options) => prestop::prestop(&options, log),
    }
    Ok(())
}

/// One line for the log. One write, so that lines of threads do not mix; a log that is closed stops nothing.
fn log(line: &str) {
    let line = format!("shardwright-node: {line}\n");
    std::io::stderr().write_all(line.as_bytes()).ok();
}

fn print(text: &str) {
    // Whoever asked and does not read needs no answer.
    std::io::stdout().write_all(text.as_bytes()).ok();
}
