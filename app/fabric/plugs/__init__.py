"""Plugs: what carries the frames of a link or a host. `base` has the interface and the registry of schemes."""
