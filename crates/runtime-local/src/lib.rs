//! A cluster as processes of this machine: ports, directories, pid files, logs.
//!
//! Everything of a cluster lies in one directory:
//!
//! ```text
//! cluster.json     the servers, their ports and nodes, and that the cluster was formed
//! manifest.yaml    what it was made from
//! lock             held by whoever changes it
//! control.sock     at which that run takes requests of others
//! secrets/USER     a password each, readable by the owner only
//! nodes/NAME/      redis.conf, users.acl, auth.conf, process.json, server.log, data/
//! ```

mod control;
mod disk;
mod engines;
mod failed_start;
mod files;
mod local;
mod machine;
mod ownership;
mod ports;
mod process;
mod reshape;
mod seats;
mod secrets;
mod state;
mod stop;
mod trial;

pub use control::{ControlSocket, connect_to_holder};
pub use engines::{Engine, EngineChoice, EngineError, find_engine};
pub use local::{Local, LocalError, Opened, Options};
pub use machine::MachineError;
pub use ownership::state_dir_of;
pub use ports::Listener;
pub use process::{Identity, ProcessError};
pub use secrets::SecretError;
pub use state::{
    ShapeNote, State, StateError, StateLock, clusters, moves_paused, pause_moves, resume_moves,
    root,
};
pub use stop::{StopError, Stopped};
pub use trial::{TrialError, is_to_be_tried, try_configuration};
