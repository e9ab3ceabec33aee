"""Methods that are trained step by step, one family a file; `training.config` finds them by name.

Each module has two functions::

    def describe(store, config) -> Card      # what the bundle will say; weights not known yet
    def make(setup: Setup) -> Method         # networks, optimisers and losses
"""
