"""Public gateway of asrloop: OpenAI's speech API, live audio over WebSockets and a web page, in front of Triton."""
