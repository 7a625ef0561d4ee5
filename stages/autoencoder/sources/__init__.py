"""Where images come from: packages, published files, a folder of the user."""
