"""One process that holds a session: the emulated cluster, the journal of its inputs, and forks of itself as checkpoints."""
