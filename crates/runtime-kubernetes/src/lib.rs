//! A cluster as pods of one `StatefulSet`: the objects it consists of, and the hands that the
//! planner moves on Kubernetes.

pub mod names;
pub mod objects;
