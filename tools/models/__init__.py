"""What the command tools.model needs: the model that is meant, images in, tables and pictures out."""
