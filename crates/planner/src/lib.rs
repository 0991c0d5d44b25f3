//! Decides, purely, what is to be done to a cluster: plan, safety, check, explain.
