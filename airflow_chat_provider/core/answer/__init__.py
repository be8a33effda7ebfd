"""What an answer says, whether it is what was asked for, and what a task makes of it."""
