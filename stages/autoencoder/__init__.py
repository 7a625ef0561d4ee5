"""What the stages share: nouns that read no params.yaml, print nothing and have no effect when imported."""
