"""Readers of weights in formats of others. Knows no model."""
