"""The autoencoder: its networks, its file, what it minimises, where it runs."""
