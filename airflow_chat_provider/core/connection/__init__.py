"""What a connection holds: where, with which key, within which limits."""
