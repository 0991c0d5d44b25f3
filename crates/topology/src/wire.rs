//! Parsers of the engines' replies. Pure, total, and fuzzed: whatever the bytes, an answer or an error, never a panic.
//!
//! Beside the `engine` crate, this is the one place that knows the wire's own words for primary and replica.

mod reply;

pub use reply::Reply;
