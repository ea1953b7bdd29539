"""The fabric's reader of tapes: requests, sections, checks, and the commands that they give the units."""
