"""Networks, one family a file; see `xharmonize.models.registry` for how they are found by name."""
