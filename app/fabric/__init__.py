"""The frame fabric: multilinks, links and plugs.

Knows nothing of HTTP, settings or the store. See ARCHITECTURE.md for how a frame travels.
"""
