"""From any STAC source to lazy pixels whose numbers are settled."""
