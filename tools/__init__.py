"""What a person runs around the pipeline."""
