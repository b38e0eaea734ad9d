"""Experiments: one file for each network that is trained, table or figure that is reproduced."""
