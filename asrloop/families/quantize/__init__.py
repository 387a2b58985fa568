"""Linear layers in integers: calibration, smoothing, rounding, and the nodes of a graph. Knows no model."""
