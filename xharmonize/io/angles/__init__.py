"""Sun and view angles per pixel: Sentinel-2's granule metadata, angle bands of Landsat and HLS."""
