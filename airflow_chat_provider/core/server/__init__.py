"""What a server says went wrong, and what to do about it."""
