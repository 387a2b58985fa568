"""What engine, interpreter and server carry, when the graphs cost no processor time."""
