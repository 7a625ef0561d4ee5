"""Grids of experiments: which ones to run, DVC's queue that runs them, and the report about their results."""
