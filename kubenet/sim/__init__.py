"""Time, tasks, randomness and the record of a run. Knows nothing of networks."""
