"""Moonshine (Jeffries et al. 2024, arXiv:2410.15608): ``decoding`` runs it, ``build`` makes its graphs from a vendor's weights."""
