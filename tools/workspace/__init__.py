"""What every tool needs of a checkout: running commands, editing params.yaml, copying the working tree."""
