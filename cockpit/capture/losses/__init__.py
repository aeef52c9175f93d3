"""Loss calls: seen wherever they happen, and taken apart into individual losses."""
