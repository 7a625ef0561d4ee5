"""Where images come from: packages and published files."""
