"""Other ways to run the same model, each in an environment of its own."""
