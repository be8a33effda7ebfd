"""What outlives a process, so that nothing is paid for twice."""
