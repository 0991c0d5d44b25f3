//! A seeded model cluster with faults, and an oracle that watches the planner drive it.
//!
//! Virtual time in milliseconds, one queue of events, one stream of chance for each entity: a seed is a history, and
//! the same seed is the same history, on every machine. Nothing here reads a clock or does input or output.
//!
//! * [`facts`]: what real engines do, in figures, each with the test that measures it.
//! * [`play`]: one history: form, break, mend, come to rest; judged after each step and at the end.
//! * [`script`]: small stories that run on the model ([`ModelWorld`]) and on real servers, and end alike.

mod bus;
mod clock;
mod commands;
mod copying;
mod dice;
mod drawing;
mod edits;
mod ending;
pub mod facts;
mod faults;
mod history;
mod late_writes;
mod model;
mod moving;
mod node;
mod operator;
mod oracle;
mod process;
pub mod script;
mod stage;
mod steps;
mod tally;
mod trace;
mod view;

pub use history::{Outcome, PASSES_MAX, REST_MAX_MS, play};
pub use model::Persistence;
pub use stage::ModelWorld;
pub use tally::Tally;
