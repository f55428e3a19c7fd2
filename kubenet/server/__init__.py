"""The front process: who may talk to the engine, and in which words."""
