"""Methods that are trained step by step, one family a file; `training.config` finds them by name.

Each module has two functions::

    def describe(facts: Facts, config) -> Card     # of the bundle to come; see `training.cards`
    def make(setup: Setup) -> Method               # networks, optimisers and losses
"""
