"""The schema of params.yaml: one module for each section, so that a stage depends on its own sections only."""
