"""Linux's network stack: one Host per machine, one NetNamespace per stack. README.md here walks one request through it."""
