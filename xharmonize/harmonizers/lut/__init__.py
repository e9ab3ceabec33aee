"""Look-up tables: one global table, or one per tile and date, applied as a pointwise map."""
