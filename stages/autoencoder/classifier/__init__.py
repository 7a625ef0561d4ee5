"""A small classifier of the images: its features compare samples with real images."""
