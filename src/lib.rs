//! inferdiff: sockets, terminal, processes.
