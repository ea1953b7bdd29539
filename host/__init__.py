"""The host side: the device behind a port, its protocol and transports, chat, server, programming, throughput and energy."""
