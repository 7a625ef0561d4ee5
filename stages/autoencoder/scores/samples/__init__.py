"""How near the samples of a model are to real images."""
