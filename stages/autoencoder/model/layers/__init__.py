"""Layers whose arithmetic is this project's own."""
