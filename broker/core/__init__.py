"""The pure core: what happens to a session, decided without I/O, clock, randomness or logging."""
