//! What runs beside the server in every pod of a cluster: the start gate that then becomes the server, the probes,
//! the preStop hook.
//!
//! A process whose memory was the only or the freshest copy of its slots must not start again as their primary: it
//! would come up empty, and its replicas would empty themselves after it. [`run`] judges the disk before each start
//! and, where that danger is real, holds: the server's port stays closed, which tells everybody that the old process
//! is gone, and the gate waits to be released.
//!
//! Standard library only, and pure parts apart from those that touch files or sockets: [`conf`], [`nodes_conf`],
//! [`disk`], [`resp`] and [`gate_protocol`] decide; [`data`], [`ballast`], [`gate`], [`login`], [`probe`], [`prestop`],
//! [`run`] and [`install`] act.

pub mod args;
pub mod ballast;
pub mod client;
pub mod conf;
pub mod data;
pub mod disk;
pub mod error;
pub mod gate;
pub mod gate_protocol;
pub mod install;
pub mod login;
pub mod nodes_conf;
pub mod password;
pub mod prestop;
pub mod probe;
pub mod resp;
pub mod run;
mod wire_words;

pub use error::Error;

/// Takes one line for the log, without an end of line. The binary writes it to stderr.
pub type Log = fn(&str);
