//! The grammar of the verbs about this machine and this program: clusters here, their logs, a client, completions.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    shardwright logs redis-2              the last 50 lines of its log\n  \
    shardwright logs 127.0.0.1:7002 -n 500\n  \
    tail -f \"$(shardwright logs redis-2 --path)\"")]
pub(crate) struct Logs {
    /// The server: its name, HOST:PORT, or its node id or the beginning of it
    pub(crate) node: String,
    /// The local cluster, where there are several: local:NAME
    #[arg(default_value = "local")]
    pub(crate) target: String,
    /// The directory of the local cluster
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// How many lines, from the end
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
    pub(crate) lines: usize,
    /// Print the path of the log instead
    #[arg(long)]
    pub(crate) path: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "The client is the engine's own: valkey-cli or redis-cli, beside the server's program or on the search path. \
    It gets the password by its environment, never by its arguments.\n\n\
    Examples:\n  \
    shardwright connect                        a prompt at the local cluster, as its application user\n  \
    shardwright connect --as default           as the administrator\n  \
    shardwright connect local:cache -- GET k   one command"
)]
pub(crate) struct Connect {
    /// The local cluster, where there are several: local:NAME
    #[arg(default_value = "local")]
    pub(crate) target: String,
    /// The directory of the local cluster
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// The user; without, the first of the manifest that is for applications, else default
    #[arg(long = "as", value_name = "USER")]
    pub(crate) user: Option<String>,
    /// What the client is to do, after `--`; a prompt without
    #[arg(last = true, value_name = "ARGUMENT")]
    pub(crate) rest: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    shardwright completions bash > /etc/bash_completion.d/shardwright\n  \
    shardwright completions zsh > \"${fpath[1]}/_shardwright\"\n  \
    shardwright completions fish > ~/.config/fish/completions/shardwright.fish")]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: Shell,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    shardwright man | man -l -                          read it now\n  \
    shardwright man --dir /usr/local/share/man/man1     a page for each verb")]
pub(crate) struct Man {
    /// Write a page for each verb into this directory, which is made where it is missing
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}
