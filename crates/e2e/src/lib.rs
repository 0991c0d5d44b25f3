//! What the cases on a real Kubernetes stand on: its API as a person with kubectl uses it, the
//! servers in the pods as a client sees them, and the faults a machine room has in store.
//!
//! Nothing here uses the operator's own rooms: what is tested does not judge itself. `topology`
//! reads what servers say of each other, in this project's words.

pub mod case;
mod dump;
pub mod error;
pub mod faults;
pub mod kube_api;
pub mod measure;
pub mod operator;
pub mod servers;
pub mod table;
pub mod wait;
pub mod world;

pub use error::{Error, Result};
pub use kube_api::{Kind, Kube};
pub use world::World;
