"""Code that the models' ``1/model.py`` share. Triton's ``pb_utils`` exists only inside them, so it is an argument here."""
