"""Runnable experiments; they need the extra `[recipes]`."""
