"""Running a tritonserver: find or assemble it, check the machine, start, supervise, stop."""
