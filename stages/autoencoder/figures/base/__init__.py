"""What all pictures share: grids of images, colours, texts."""
