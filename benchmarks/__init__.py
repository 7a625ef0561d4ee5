"""What maintainers measure: training beside other programs and the machine's limit, and the pipeline by stage."""
