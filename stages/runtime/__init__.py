"""How the process of a stage starts and ends: pinned numerics, one line for an error."""
