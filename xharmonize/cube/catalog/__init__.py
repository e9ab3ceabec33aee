"""From any STAC source to scenes whose numbers are settled; no pixel is read."""
