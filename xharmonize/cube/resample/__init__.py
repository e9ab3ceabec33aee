"""Resampling as dask blocks: the plan of two grids, and the graph that carries it out."""
