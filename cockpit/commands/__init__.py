"""What commands do; which there are, and their options, is :mod:`cockpit.cli`'s."""
