"""The training loop and what it does to images."""
