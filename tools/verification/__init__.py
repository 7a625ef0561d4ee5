"""What `python -m tools.verify` is made of: the clone, the verdict of each stage, the recorded environment."""
