"""Compiled inner loops, each beside a plain torch twin that is its truth and its fallback."""
