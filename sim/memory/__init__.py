"""Models of memories as hardware, so that they run in any simulator, and what each backend delivers from them."""
