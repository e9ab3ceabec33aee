"""Kernels: arrays in, arrays out. They know neither xarray nor dask, and release the GIL."""
