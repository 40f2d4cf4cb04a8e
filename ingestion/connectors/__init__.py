"""Platforms asked through their APIs: one module per source, and what they share."""
