"""Who gets which event, and in what order: history, retained values, cohorts, subscribers."""
