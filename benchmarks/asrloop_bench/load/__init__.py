"""Load from processes of their own: what the callers do, how they are told, what a turn of them gave."""
