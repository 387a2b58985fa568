"""How everything here is measured: clips, interleaved rounds, statistics, the server, and what a result says about itself."""
