"""Modules that scripts written for f-dangel/cockpit import."""
