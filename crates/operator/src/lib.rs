//! The controller process: it watches clusters of one namespace or of all, and makes passes over
//! them with the same planner as everywhere else.
//!
//! It adds no decisions: what is done is the planner's, and what is shown is a rendering of the last report.
//!
//! * [`run()`]: lead, keep every cluster (a task for each: validate, apply, pass, tell), end well.
//! * [`status`] and [`events`]: a report as a person reads it with `kubectl get` and `kubectl describe`. Pure.
//! * [`incidents`]: what happened to shards between two looks. Pure.
//! * [`reasons`]: every reason of a condition, and what ends it. Pure.
//! * [`wishes`]: what a person asked for on the object, and the answer. Pure.
//! * [`lease`]: of several operators one acts.
//! * [`admin`] and [`metrics`]: `/livez`, `/readyz` and `/metrics`.
//! * [`install`]: the objects that the operator needs. Pure.

pub mod admin;
mod error;
pub mod events;
pub mod incidents;
pub mod install;
pub mod lease;
pub mod metrics;
mod pace;
mod pods;
mod reason;
pub mod reasons;
mod run;
pub mod status;
mod tell;
mod tend;
pub mod wishes;

pub use error::PassError;
pub use run::{Config, OperatorError, run};
