//! What the engines really do, one test per fact and engine. The names are those that the
//! simulator's constants refer to. Times are orders of magnitude with generous bounds: they
//! tell apart "at once", "seconds" and "never", not one machine from another.
//!
//! `SHARDWRIGHT_FACTS=FILE` appends what was measured to a file.

mod addresses;
mod failover;
mod forming;
mod frozen;
mod meeting;
mod persistence;
mod refusing;
mod scene;
mod slots;
mod users;
