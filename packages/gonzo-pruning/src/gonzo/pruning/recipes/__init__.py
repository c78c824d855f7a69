"""Experiments on lottery tickets; they need the extra ``gonzo-pruning[recipes]``."""
