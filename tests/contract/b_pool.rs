//! Parity clauses B: what `multiprocessing.Pool` adds.
