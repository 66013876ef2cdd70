"""What each command is called, takes and says of itself. What it does is imported when it runs.

One module for each group of commands; `tidegate.cli` lists them all.
"""
