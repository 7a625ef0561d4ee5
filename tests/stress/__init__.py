"""Long runs of what may go wrong: hostile files, kills, losses of power, other CPUs. Small ones are in the suite."""
