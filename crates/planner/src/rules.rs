//! The rules. Each reads the observation and adds steps or waits to the draft; none knows of another.

pub(crate) mod electable;
pub(crate) mod forget;
pub(crate) mod form;
pub(crate) mod leave;
pub(crate) mod meet;
pub(crate) mod open_slots;
pub(crate) mod promote;
pub(crate) mod recreate;
pub(crate) mod remove;
pub(crate) mod replace;
pub(crate) mod replicas;
pub(crate) mod request;
pub(crate) mod settle;
pub(crate) mod shape;
pub(crate) mod spread;
pub(crate) mod start;
pub(crate) mod strays;
pub(crate) mod take_in;
pub(crate) mod uncovered;
