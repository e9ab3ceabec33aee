"""Read STAC sources into lazy cubes with a settled radiometric contract."""
