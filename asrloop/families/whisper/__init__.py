"""Whisper (Radford et al. 2022, arXiv:2212.04356): ``decoding`` runs it, ``build`` makes its graphs from weights of others."""
