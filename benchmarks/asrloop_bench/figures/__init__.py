"""Single figures: the engine, the server around it, accuracy, the client's pool, transducers, and what did not help."""
