"""Parts of graphs that families share: layers of encoders, steps of decoders, convolutions. Knows no model."""
