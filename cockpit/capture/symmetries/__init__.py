"""Symmetries of a network that tie the weights of a unit together, told by the graph of its loss."""
