"""Scores of codes as points in space: how many dimensions they fill, and which clusters they form."""
