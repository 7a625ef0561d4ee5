"""What tools.example makes folders of: patches of photographs, and defects planted in them."""
