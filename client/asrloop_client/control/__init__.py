"""Beside a call: to cancel it, to ask how far it is, and what is known about the servers."""
