"""What can run the experiments of a sweep: this machine, or the nodes of a cluster."""
