"""What the stages share: nouns that read no params.yaml, print nothing and change nothing when imported."""
