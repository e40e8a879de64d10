//! Parity clauses G: what is freed when, and errors that nobody reads.
