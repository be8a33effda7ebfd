"""From templates to values."""
