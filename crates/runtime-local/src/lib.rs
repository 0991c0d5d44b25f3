//! A cluster as processes of this machine: ports, directories, pid files, logs.
