"""Live audio: streams played at the speed of speech, and what became of them."""
