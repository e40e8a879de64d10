//! Parity clauses N: the public names.
