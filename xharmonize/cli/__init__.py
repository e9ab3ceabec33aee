"""The command line and the loopback STAC API of the demo."""
