"""Whom to ask, when, and what is known of the answers: sources, breakers, freshness, the schedule."""
