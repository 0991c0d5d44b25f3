//! Decides, purely, what is to be done to a cluster.
//!
//! [`plan()`] is total: it cannot fail, it does no input or output, and the same input gives byte for byte the
//! same plan. What keeps it from acting is a value too ([`Waiting`]), and so is what permits it
//! ([`evidence`]): a time-out cannot be passed where a proof of death is asked for.
//!
//! * [`plan()`]: the rules, in the order of their safety: coverage first, then redundancy, then shape.
//! * [`safety`]: every reason not to do a thing.
//! * [`check()`]: a linter of plans that shares no code with the rules.
//! * [`Memory`]: what is remembered between two plans.
//! * [`next_batch()`], [`job_keys()`]: how much of a slot moves next, by us and by the engine.
//! * [`diagnose()`]: what is wrong with a cluster, and what mends it, for people.

mod action;
pub mod balance;
mod check;
mod desired;
mod diagnose;
mod draft;
pub mod evidence;
mod functions;
mod identities;
mod layout;
mod limits;
mod lost_majority;
mod memory;
mod named_slots;
mod ours;
mod pace;
mod pairing;
mod placement;
mod plan;
mod refused;
mod repeated_copies;
mod returned;
mod rules;
pub mod safety;
mod shape;
mod stated;
mod surplus;
mod waiting;

pub use action::{Action, Precondition, Reason, Step};
pub use check::{Severity, Violation, ViolationKind, check};
pub use desired::{Authority, Consent, Desired, FailoverPolicy, Manner, Request, Shape};
pub use diagnose::{
    FunctionsDiffer, Problem, ProblemKind, Taken, diagnose, slots_are_moving, take_writes_again,
    while_slots_move,
};
pub use functions::{left_out, not_given};
pub use layout::layout;
pub use limits::Limits;
pub use lost_majority::LostMajority;
pub use memory::Memory;
pub use ours::{Standing, standings, to_record};
pub use pace::{Batch, Budget, Went, job_keys, next_batch};
pub use pairing::{Pairing, Unspread, pair};
pub use placement::{Crowded, PrimariesAt, Shared, SharedPlace, SharedWith};
pub use plan::{Plan, plan};
pub use refused::{NoDeath, Witnesses};
pub use repeated_copies::RepeatedCopy;
pub use returned::unserved;
pub use surplus::too_many;
pub use waiting::{Foreign, OnlyOnDisk, Rest, Spread, SpreadBy, Waiting};
