"""Runnable experiments; they need the extra ``gonzo-efficient-attn[recipes]``."""
