"""Networks over tiles: where tiles lie, what a block computes, and the graph of all blocks."""
