"""From scenes to lazy pixels on one grid, by stackstac or by odc-stac."""
