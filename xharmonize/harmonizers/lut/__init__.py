"""Look-up tables: fitted per tile and date or once for all, applied as one pointwise map."""
