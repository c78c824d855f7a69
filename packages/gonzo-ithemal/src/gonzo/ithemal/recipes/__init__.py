"""Runnable experiments; they need the extra ``gonzo-ithemal[recipes]``."""
