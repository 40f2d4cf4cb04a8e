"""Keeping persons out of what ingestion stores and shows: :mod:`turnout.personal`, which the service uses as well."""

from turnout.personal import identity_salt, scrub

__all__ = ["identity_salt", "scrub"]
