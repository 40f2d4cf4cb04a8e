"""Alembic's script folder. A change of :mod:`turnout.warehouse.tables` comes with a new file in ``versions``."""
