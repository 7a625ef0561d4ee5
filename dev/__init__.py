"""What maintainers run: the generator of dvc.yaml's code deps, JSON schema and plots page; locks and audit."""
