"""Tokens to text: vocabularies, and where words begin."""
