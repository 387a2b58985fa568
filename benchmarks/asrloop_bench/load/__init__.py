"""Load from processes of their own: the callers, their turns, and the results of a turn."""
