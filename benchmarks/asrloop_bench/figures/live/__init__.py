"""Live audio: streams played at the speed of speech, and judged."""
