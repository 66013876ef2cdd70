"""The names, parameters and help texts of the commands, one module for each group. `tidegate.cli` lists them all.

The implementation of a command is imported when it runs, which keeps ``--help`` and other commands fast.
"""
