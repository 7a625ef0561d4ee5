"""Long tests: hostile input, killed runs, losses of power, emulated CPUs. The suite runs a small version of each."""
