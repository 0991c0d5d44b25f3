//! The rules of the plan, one file per topic. Every observation is made by hand with [`world::World`]; no simulator.

mod balance;
mod check;
mod diagnose;
mod forget;
mod forming;
mod leaving;
mod loads;
mod meeting;
mod open_slots;
mod pairing;
mod promoting;
mod properties;
mod recording;
mod recreate;
mod remembering;
mod remove;
mod replicas;
mod requests;
mod safety;
mod shape;
mod spread;
mod starting;
mod strangers;
mod turns;
mod uncovered;
mod world;
