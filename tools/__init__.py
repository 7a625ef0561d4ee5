"""The commands that users run beside the pipeline; `python -m tools` lists them."""
