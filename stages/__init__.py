"""The pipeline: one short script for each stage, and what they share."""
