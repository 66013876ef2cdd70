"""The rules, pure: no event loop, socket, clock, randomness or log. Time, jitter and ids are arguments."""
