"""Greedy search with attention decoders: slots, rows of K/V, steps and the checking of drafts. Knows no model."""
