"""From parameters that no module hook serves up the graph to where they first meet batched data."""
