"""Bulk: rows in, rows out, and nothing paid twice after a crash."""
