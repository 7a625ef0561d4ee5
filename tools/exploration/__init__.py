"""The parts of tools.explore: what goes into its page, and the page itself."""
