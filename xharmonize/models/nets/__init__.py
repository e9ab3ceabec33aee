"""Networks, one family a file; `xharmonize.models.architectures` finds them by name."""
