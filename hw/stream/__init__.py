"""Parts for any stream: skid and buffer registers, queues, broadcast, joined pulses, the logit tap, forwarded ports."""
