"""How many rows are in flight, and how fast."""
