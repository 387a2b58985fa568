"""Compares two commits, each with its own environment and server, under load in turns."""
