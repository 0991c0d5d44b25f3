//! A cluster as pods of one `StatefulSet`: the objects it consists of, and the hands that the
//! planner moves on Kubernetes.

mod apply;
mod claims;
mod evictions;
mod facts;
mod forward;
mod gate;
pub mod names;
mod not_applied;
mod object;
pub mod objects;
mod older_engine;
mod outdated;
pub mod outside;
mod password_changes;
mod passwords;
mod pods;
mod record;
mod refused_pods;
mod request;
mod seats;
mod settings;
mod shrink;
mod store;
mod stranded;
mod visit;
mod wake;
pub mod wish;
mod world;

pub use apply::{Applied, Applier, ApplyError};
pub use facts::{
    ClaimFact, Container, HostFact, HostState, ObjectKey, PodFact, SetFact, VolumeFact,
};
pub use forward::Forwards;
pub use not_applied::{FileWritten, MadeWith, NotApplied, not_applied};
pub use object::{ClusterObject, cluster_resource};
pub use passwords::{PasswordError, own_password};
pub use pods::Pods;
pub use refused_pods::refused_pods;
pub use request::{RequestError, namespace_ends};
pub use seats::{GateReport, Sight, formed, recorded, seats};
pub use settings::UnknownSettings;
pub use visit::Visit;
pub use wake::Wake;
pub use world::{Scope, World};
