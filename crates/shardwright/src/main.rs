//! Declare a sharded Redis or Valkey cluster once; it is formed, grown, rolled and healed.

mod cli;
mod codes;
mod commands;
mod connect;
mod exit;
mod handover;
mod hint;
mod kubernetes;
mod met;
mod moves;
mod plugin;
mod printer;
mod progress;
mod report;
mod requests;
mod status;
mod stop;
mod table;
mod target;
mod verb_result;
mod watch;
mod yaml;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::cli::Cli;
use crate::exit::{ExitStatus, UsageError};
use crate::printer::{Output, Printer};
use crate::verb_result::Asked;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    let cli = if plugin::is_called(args.first().map(AsRef::as_ref)) {
        plugin::parse(args.clone())
    } else {
        Cli::try_parse_from(args.clone()).map_err(plugin::Unparsed::Grammar)
    };
    let cli = match cli {
        Ok(cli) => cli,
        Err(plugin::Unparsed::Grammar(error)) => return misread(&args, &error),
        Err(plugin::Unparsed::Meaning(error)) => {
            return end(
                Printer::new(output(&args)),
                &asked(&args),
                Err(error.into()),
            );
        }
    };
    let mut out = Printer::new(cli.global.output);
    let asked = cli.command.asked();
    let ended = commands::run(cli, &mut out);
    end(out, &asked, ended)
}

/// Tells how a run ended.
fn end(mut out: Printer, asked: &Asked, ended: anyhow::Result<ExitStatus>) -> ExitCode {
    let told = out.finish(asked, &ended);
    match ended.and_then(|status| told.map(|()| status)) {
        Ok(status) => status.into(),
        Err(error) => {
            let status = ExitStatus::of(&error);
            out.error(&error);
            status.into()
        }
    }
}

/// What the grammar does not take, or is asked to explain (`--help`).
fn misread(args: &[OsString], error: &clap::Error) -> ExitCode {
    let mut out = Printer::new(output(args));
    if error.use_stderr() && out.is_json() {
        let text = error.render().to_string();
        let (first, rest) = text.split_once("\n\n").unwrap_or((&text, ""));
        let first = first.trim_start_matches("error: ").replace("\n  ", " ");
        let rest: Vec<&str> = rest.split_whitespace().collect();
        let told = UsageError(format!("{first}; {}", rest.join(" ")));
        let finished = out.finish(&asked(args), &Err(told.into()));
        if let Err(error) = finished {
            out.error(&error);
        }
    }
    // A closed stream leaves nowhere to tell it.
    error.print().ok();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(ExitStatus::Usage.code()))
}

/// The form that a command line asks for which was not understood as a whole.
fn output(args: &[OsString]) -> Output {
    let words: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
    let ours = words.iter().take_while(|word| *word != "--");
    let ours: Vec<&str> = ours.map(AsRef::as_ref).collect();
    let pair = |w: &[&str]| matches!(w, ["-o" | "--output", "json"]);
    let one = |w: &&str| ["-ojson", "-o=json", "--output=json"].contains(w);
    if ours.windows(2).any(pair) || ours.iter().any(one) {
        Output::Json
    } else {
        Output::Table
    }
}

/// The verb of such a command line, if one is there.
fn asked(args: &[OsString]) -> Asked {
    let grammar = Cli::command();
    let mut words = args.iter().skip(1).map(|arg| arg.to_string_lossy());
    let verb = words.find_map(|word| grammar.find_subcommand(word.as_ref()));
    Asked {
        verb: verb.map(|verb| verb.get_name().to_owned()),
        ..Asked::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_that_is_not_understood_still_says_who_reads() {
        let of = |line: &str| {
            let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            (output(&args), asked(&args).verb)
        };
        let scale = Some("scale".to_owned());
        for line in [
            "s scale -o json",
            "s -ojson scale",
            "s --output=json scale --x",
            "s scale --output json 5",
        ] {
            assert_eq!(of(line), (Output::Json, scale.clone()), "{line}");
        }
        assert_eq!(of("s scale -- -o json"), (Output::Table, scale));
        assert_eq!(of("s -o json nonsense"), (Output::Json, None));
    }
}
