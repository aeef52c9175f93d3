"""Expensive primitives, each computed once a step however many instruments ask for it."""
