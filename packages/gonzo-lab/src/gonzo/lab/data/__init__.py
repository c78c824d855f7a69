"""Data sets by name: found, downloaded, checked and read."""
