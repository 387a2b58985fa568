"""A real tritonserver: found or assembled, checked for, started, waited for, stopped."""
