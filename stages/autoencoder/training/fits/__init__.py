"""What a trained model keeps of its training images beside its weights."""
