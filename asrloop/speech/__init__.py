"""Finds speech in audio, cuts recordings into windows, joins their texts, and finds output that is no transcript."""
