"""Where speech is in audio, and what is no transcript of it: silence that was given words, a phrase repeated without end."""
