//! Parity clauses F: futures.
