"""Methods of measuring: clips, interleaved rounds, statistics, the server, provenance of results."""
