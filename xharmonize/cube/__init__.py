"""Cubes: from catalogues to arrays that say what their numbers mean, and back to files."""
