"""Measurements of asrloop: load by perf_analyzer, comparisons of interleaved arms, accuracy, and their reports."""
