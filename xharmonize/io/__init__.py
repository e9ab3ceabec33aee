"""Read and write STAC, Zarr and COGs, and read angles."""
