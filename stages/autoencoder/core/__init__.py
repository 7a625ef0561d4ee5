"""Errors, files that are written whole, named arrays in one file."""
