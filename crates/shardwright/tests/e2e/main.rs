//! The real binary against real servers: what a person types, and what comes of it.

mod asking;
mod bad_input;
mod by_load;
mod clones;
mod create;
mod deaths;
mod elsewhere;
mod first_copy;
mod fix;
mod json;
mod kills;
mod local;
mod local_input;
mod local_verbs;
mod lost_directories;
mod lost_tables;
mod members;
mod moving;
mod names;
mod refusals;
mod rig;
mod room;
mod strays;
mod streams;
mod versions;
mod writes;
