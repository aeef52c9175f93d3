"""Hooks on modules and tensors while a tracked step is open, and the calls of modules that they see."""
