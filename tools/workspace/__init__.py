"""What every tool needs of a checkout: commands and their arguments, params.yaml, dvc.yaml, copies of the tree."""
