"""Where the results of a batch go."""
