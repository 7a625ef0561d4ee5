"""Every score of reconstructions and codes."""
