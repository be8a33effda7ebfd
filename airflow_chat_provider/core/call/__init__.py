"""One call: its attempts, the bytes that come back, and whether they are an answer."""
