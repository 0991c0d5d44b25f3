//! The runtime interface, and the executor: observe, plan, check, one bounded batch, report.
//!
//! Nothing is decided here. A [`Runtime`] says which servers there are and starts them; the [`Keeper`] looks at
//! them all, asks the planner, has the plan checked, and carries out its steps.

mod counts;
mod duplicates;
mod execute;
mod functions;
mod guest;
mod hear;
mod keeper;
mod links;
mod loads;
mod moving;
mod pen;
mod progress;
mod refusals;
mod runtime;
mod slot_keys;
mod step_log;

pub use execute::{Outcome, StepError};
pub use guest::{Guest, GuestError};
pub use keeper::{End, Keeper, Report};
pub use links::Links;
pub use loads::{Held, SlotLoads, slot_loads};
pub use moving::Total;
pub use pen::{PenError, name_of_local_run, new_pen, refuse_second_pen};
pub use progress::{MoveProgress, Moving};
pub use runtime::{Runtime, RuntimeError, Seat};
pub use slot_keys::KeyAt;
