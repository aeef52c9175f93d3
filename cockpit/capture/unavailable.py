"""The one exception for what a step cannot tell."""

from __future__ import annotations


class Unavailable(ValueError):
    """Something cannot be read off this step; the message is the reason that the user is shown."""
