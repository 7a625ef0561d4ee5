"""How the process of a stage starts and ends: pinned numerics, several processes, one line for an error."""
