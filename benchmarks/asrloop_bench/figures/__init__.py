"""Single figures: the engine, the server around it, accuracy, long recordings, live audio, the client's pool."""
