"""What stands behind a cockpit: the order of events in a step, who looks at it, what is said and written about it."""
