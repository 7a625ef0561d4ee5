"""What all sections share: the strict base class, the keys at the top level, the loader."""
