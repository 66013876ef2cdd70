"""Measurements of Tidegate beside what people would use instead. README.md says how to run them."""
