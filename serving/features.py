"""Reading the online features of one brief: a single round trip to Redis."""

from __future__ import annotations

from collections.abc import Sequence

from serving.planner import Features
from turnout.settings import Settings


class FeatureReader:
    """The online store, opened once per process. Thread-safe.

    Opening imports Feast and reads its registry: some seconds, so do it before the first request.
    """

    def __init__(self, settings: Settings) -> None:
        from feature_repo import store

        self._settings = settings
        self._online = store.online
        store.open_store(settings)

    def read(self, tactic_ids: Sequence[str], segment_id: str, organisation: str | None = None) -> Features:
        """What is known of these tactics and this segment now.

        Args:
            organisation: whose history counts; that of the settings when left out.

        Raises:
            redis.RedisError: Redis cannot be reached.
        """
        settings = self._settings
        if organisation is not None and organisation != settings.organisation:
            settings = settings.model_copy(update={"organisation": organisation})
        found = self._online(settings, tactic_ids, segment_id)
        return Features(tactics=found.tactics, segment=found.segment, as_of=found.as_of)
