"""The host link: byte pipes, frames, commands, and the runners that feed the token loop."""
