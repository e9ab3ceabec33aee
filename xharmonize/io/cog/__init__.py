"""Cubes as cloud-optimised GeoTIFFs with STAC items."""
