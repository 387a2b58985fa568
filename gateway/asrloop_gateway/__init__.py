"""Gateway of asrloop: what strangers may reach. OpenAI's speech API, live audio over WebSockets and a page, in front of Triton."""
