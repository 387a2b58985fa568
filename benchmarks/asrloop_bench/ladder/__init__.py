"""The ladder: ways to serve the same clips, compared in one run, from a channel per call to continuous batching."""
