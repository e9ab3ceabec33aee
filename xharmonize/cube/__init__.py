"""Cubes: arrays that carry their radiometric contract, and the operations on them."""
