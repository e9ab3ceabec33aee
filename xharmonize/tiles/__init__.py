"""Tiles of images: how they are sampled, for inference and training alike."""
