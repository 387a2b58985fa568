"""The sweep: one server under load by NVIDIA's perf_analyzer, and the report."""
