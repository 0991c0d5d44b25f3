//! One file for each verb.

mod add_node;
mod call;
mod cancel;
mod change;
mod check;
mod connect;
mod crd;
mod create;
mod declare;
mod down;
mod failover;
mod fix;
mod import;
mod info;
mod install;
mod logs;
mod ls;
mod man;
mod operator;
mod pause;
mod plan;
mod rebalance;
mod remove_node;
mod render;
pub(crate) mod reshape;
mod reshard;
mod scale;
mod serve;
mod set_timeout;
mod status;
mod up;

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command, LogFormat};
use crate::exit::ExitStatus;
use crate::printer::Printer;

/// Runs the verb that was typed.
pub(crate) fn run(cli: Cli, out: &mut Printer) -> anyhow::Result<ExitStatus> {
    log(&cli);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let login = cli.global.login;
    runtime.block_on(async {
        match cli.command {
            Command::Up(args) => Box::pin(up::run(args, out)).await,
            Command::Status(args) => Box::pin(status::run(args, &login, out)).await,
            Command::Down(args) => Box::pin(down::run(args, out)).await,
            Command::Ls => ls::run(out),
            Command::Logs(args) => logs::run(args, out),
            Command::Connect(args) => connect::run(args),
            Command::Create(args) => Box::pin(create::run(args, &login, out)).await,
            Command::Check(args) => Box::pin(check::run(args, &login, out)).await,
            Command::Fix(args) => Box::pin(fix::run(args, &login, out)).await,
            Command::Plan(args) => Box::pin(plan::run(args, &login, out)).await,
            Command::Failover(args) => Box::pin(failover::run(args, &login, out)).await,
            Command::AddNode(args) => Box::pin(add_node::run(args, &login, out)).await,
            Command::RemoveNode(args) => Box::pin(remove_node::run(args, &login, out)).await,
            Command::Scale(args) => Box::pin(scale::run(args, &login, out)).await,
            Command::Pause(args) => Box::pin(pause::run(args, true, &login, out)).await,
            Command::Resume(args) => Box::pin(pause::run(args, false, &login, out)).await,
            Command::Cancel(args) => Box::pin(cancel::run(args, &login, out)).await,
            Command::Rebalance(args) => Box::pin(rebalance::run(args, &login, out)).await,
            Command::Reshard(args) => Box::pin(reshard::run(args, &login, out)).await,
            Command::Info(args) => Box::pin(info::run(args, &login, out)).await,
            Command::Call(args) => Box::pin(call::run(args, &login, out)).await,
            Command::SetTimeout(args) => Box::pin(set_timeout::run(args, &login, out)).await,
            Command::Import(args) => Box::pin(import::run(args, &login, out)).await,
            Command::Operator(args) => Box::pin(operator::run(args, &login.kube)).await,
            Command::Install(args) => install::run(args, out),
            Command::Crd(args) => crd::run(&args, out),
            Command::Render(args) => Box::pin(render::run(&args, &login, out)).await,
            Command::Completions(args) => man::completions(&args, out),
            Command::Man(args) => man::run(&args, out),
        }
    })
}

/// What libraries tell goes to standard error: nothing by default, since progress and errors say what matters. The
/// operator has no one to print to, and logs what it does.
fn log(cli: &Cli) {
    let format = match &cli.command {
        Command::Operator(args) => Some(args.log_format),
        _ => None,
    };
    let level = match (cli.global.verbose, format) {
        (0, None) => "off",
        // Watches that fail are told of by our own code.
        (0, Some(_)) | (1, None) => "shardwright=info,kube_runtime=error,warn",
        (1, Some(_)) => "shardwright=debug,info",
        _ => "debug",
    };
    let filter =
        EnvFilter::try_from_env("SHARDWRIGHT_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match format {
        Some(LogFormat::Json) => log.json().init(),
        Some(LogFormat::Text) | None => log.init(),
    }
}
