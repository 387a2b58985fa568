"""Servers, gateway, balancer and Prometheus side by side, as operators run them: for `make demo-ops`, a figure, and the tests."""
