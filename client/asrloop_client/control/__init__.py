"""Everything beside a call: watching whether a server answers, readiness, health, progress, cancelling."""
