//! The controller process: it watches clusters of one namespace or of all, and makes passes over
//! them with the same planner as everywhere else.
