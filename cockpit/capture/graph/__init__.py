"""The graph behind a loss: its nodes, and what can be told from them alone."""
