"""What the session is made of: one tracked step, who looks at it, and what is said and written about it."""
