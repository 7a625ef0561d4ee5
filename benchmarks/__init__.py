"""Benchmarks for maintainers: training beside other programs and the machine's limit; the pipeline stage by stage."""
