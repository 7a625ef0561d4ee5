"""The schema of params.yaml: one module for each section, so that a stage depends on its own alone.

schema.py puts the sections together; only the stage `check` and tools.schema import it.
"""
