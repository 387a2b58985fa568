"""The model as its vendor publishes it: what the project's own graphs and engine are compared with."""
