"""Datasets whose files their publishers offer: fetched, checked, and read as one stream of images."""
