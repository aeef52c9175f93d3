"""What several instruments make of what probes found: computed in one way, read in one way."""
