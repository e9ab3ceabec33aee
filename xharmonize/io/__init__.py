"""Reading and writing: STAC, Zarr, COGs, and angles in files."""
