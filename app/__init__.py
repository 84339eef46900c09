"""Multilink: one VDE host joined to several links, with hand-offs under HTTP."""

__version__ = "0.1.0"
