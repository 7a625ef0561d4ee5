"""Images and labels on disk, and their pixels as numbers."""
