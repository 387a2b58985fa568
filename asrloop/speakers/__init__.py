"""Who spoke when: pyannote's networks hear voices, and what is alike becomes a speaker. Knows no words and no server."""
