"""A user's folder of images: its layout, and its files as uint8 arrays of one shape."""
