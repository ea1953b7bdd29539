"""Faults on purpose: a campaign of single faults in the whole accelerator, and millions of frames against its host link."""
