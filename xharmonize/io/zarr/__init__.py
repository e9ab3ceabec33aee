"""Zarr stores that grow date by date: reserve, fill, commit."""
