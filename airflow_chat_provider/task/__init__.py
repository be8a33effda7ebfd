"""What a task is: its arguments, how it runs, what it leaves."""
