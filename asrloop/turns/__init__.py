"""Whose turn it is: a network that hears when a speaker is done, and how its graph is made."""
