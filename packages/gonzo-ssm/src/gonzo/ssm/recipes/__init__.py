"""Runnable experiments; they need the extra ``gonzo-ssm[recipes]``."""
