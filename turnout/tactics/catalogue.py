"""Reading and searching the catalogue."""

from __future__ import annotations

import difflib
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache, cached_property, lru_cache
from importlib.resources import files
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from turnout.brief import Assets
from turnout.errors import ConfigurationError

CostKind = Literal["auction", "per_unit", "effort"]
CurveKind = Literal["hill", "logistic", "step", "capped_linear"]
AssetName = Literal[
    "email_list", "social_followers", "community_members", "partners", "speakers", "employees", "sales_contacts",
    "site_visitors",
]  # fmt: skip

#: A range from low to high is read as a 90 % interval: ± 1.645 standard deviations.
Z90 = 1.6449

_JAPANESE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uff66-\uff9f]")
_WORD = re.compile(r"[^\W_]+")

#: Labels of registrations that came by themselves: no tactic.
_ORGANIC = frozenset(
    ("direct", "organic", "none", "unknown", "other", "others", "n a", "na", "null", "自然流入", "オーガニック", "直接",
     "直接流入", "不明", "その他", "なし")
)  # fmt: skip

#: Where Latin script meets Japanese there is a word boundary: Meta広告, AIセミナーfacebook.
_SCRIPT_CHANGE = re.compile(
    r"(?<=[a-z0-9])(?=[\u3040-\u30ff\u3400-\u9fff])|(?<=[\u3040-\u30ff\u3400-\u9fff])(?=[a-z0-9])"
)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Prior(_Model):
    """One published figure or guess.

    ``low`` and ``high`` are read as a 90 % range; any two of the three figures may be missing.
    """

    metric: str
    low: float | None = None
    typical: float | None = None
    high: float | None = None
    source: str = Field(min_length=1)
    year: int | None = Field(default=None, description="None: the page shows no year.")
    kind: Literal["sourced", "guess"]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        given = [v for v in (self.low, self.typical, self.high) if v is not None]
        if not given:
            raise ValueError(f"prior {self.metric}: needs at least one of low, typical, high")
        if given != sorted(given):
            raise ValueError(f"prior {self.metric}: low <= typical <= high expected; got {given}")
        return self

    @property
    def value(self) -> float:
        """The typical figure; where only a range was published, its geometric middle."""
        if self.typical is not None:
            return self.typical
        low, high = self.low, self.high
        if low is not None and high is not None:
            return math.sqrt(low * high) if low > 0 else (low + high) / 2
        return low if low is not None else (high or 0.0)

    @property
    def log_sd(self) -> float | None:
        """Standard deviation of the figure's logarithm, from its range; ``None`` where no range was published."""
        low = self.low if self.low is not None and self.low > 0 else None
        if low is not None and self.high is not None:
            return math.log(self.high / low) / (2 * Z90)
        for side in (low, self.high):
            if side is not None and self.value > 0 and side != self.value:
                return abs(math.log(side / self.value)) / Z90
        return None


class Cost(_Model):
    """How the tactic is paid. Amounts in JPY."""

    kind: CostKind
    unit_price: float | None = Field(default=None, gt=0, description="JPY; typical price of one unit, for per_unit.")
    minimum_spend: float | None = Field(default=None, ge=0, description="JPY; less than this is not worth starting.")
    maximum_spend: float | None = Field(default=None, gt=0, description="JPY; beyond this the figures say nothing.")
    note: str = ""


class Hours(_Model):
    """Staff hours: ``setup_hours`` once, ``hours_per_unit`` for each unit."""

    setup_hours: float = Field(ge=0)
    hours_per_unit: float = Field(ge=0)
    max_units: int | None = Field(default=None, ge=1, description="None: the asset's size or the budget limits it.")

    def for_units(self, units: float) -> float:
        """Hours that ``units`` >= 0 units take; none for 0."""
        return self.setup_hours + self.hours_per_unit * units if units > 0 else 0.0


class Window(_Model):
    """Days before the event on which the tactic is useful."""

    first_day: int = Field(ge=0)
    last_day: int = Field(ge=0)


class Response(_Model):
    """How the priors make a curve; each name is a metric of the tactic's priors. See ``catalogue.yaml``'s head."""

    curve: CurveKind
    cost: str | None = None
    per: tuple[str, ...] = ()
    limit: str | None = None
    size: str | None = None
    asset_factor: str | None = None
    rates: tuple[str, ...] = ()
    unit_rates: tuple[str, ...] = ()
    price: str | None = None
    price_per_size: bool = False
    decay: str | None = None

    def metrics(self) -> Iterator[str]:
        """Every metric the curve is made of."""
        single = (self.cost, self.limit, None if self.size == "goal" else self.size, self.asset_factor)
        yield from (m for m in (*single, self.price, self.decay) if m)
        yield from (*self.per, *self.rates, *self.unit_rates)


class Tactic(_Model):
    """One thing one can do. Ids are stable: warehouse rows, features and models carry them."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    name_en: str
    name_ja: str
    channel: str
    is_paid: bool
    platform: Literal["google_ads", "meta_ads", "linkedin_ads", "sendgrid"] | None = Field(
        default=None, description="The source that reports the tactic's performance."
    )
    asset: AssetName | None = Field(default=None, description="The field of the brief's assets that sizes it.")
    cost: Cost
    hours: Hours
    lead_time_days: int = Field(ge=0, description="Days before the event planners usually start it.")
    window: Window
    preparation_days: int = Field(ge=0, description="Days from the decision to the first effect.")
    minimum_run_days: int = Field(ge=1, description="The shortest useful run.")
    send_days: tuple[int, ...] = Field(
        default=(), description="For sends and posts: days before the event of the first, second, … one."
    )
    limit_note: str = ""
    response: Response
    utm_labels: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    generic_labels: tuple[str, ...] = Field(
        default=(), description="Labels that name a whole platform: any more precise label in the same text wins."
    )
    priors: tuple[Prior, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        by_name = {p.metric for p in self.priors}
        missing = sorted(set(self.response.metrics()) - by_name)
        if missing:
            raise ValueError(f"tactic {self.id}: response names the metrics {missing} that no prior gives")
        if len(by_name) != len(self.priors):
            raise ValueError(f"tactic {self.id}: a metric has two priors")
        if self.cost.unit_price != self._unit_price():
            raise ValueError(f"tactic {self.id}: unit_price is {self.cost.unit_price}, its priors {self._unit_price()}")
        if self.is_paid == (self.cost.kind == "effort"):
            raise ValueError(f"tactic {self.id}: a paid tactic costs money, a free one only effort")
        if self.window.first_day < max(self.window.last_day + self.minimum_run_days - 1, self.lead_time_days):
            raise ValueError(f"tactic {self.id}: the window is shorter than the run, or starts after the lead time")
        low, high = self.cost.minimum_spend, self.cost.maximum_spend
        if low is not None and high is not None and low > high:
            raise ValueError(f"tactic {self.id}: minimum_spend {low} is above maximum_spend {high}")
        return self

    def _unit_price(self) -> float | None:
        """The typical price of one unit, from the priors, to the yen."""
        response = self.response
        if response.price is None:
            return None
        size = response.size if response.price_per_size else None
        prices = {p.metric: p.value for p in self.priors}
        return float(round(prices[response.price] * (prices[size] if size else 1.0)))

    def name(self, language: Literal["ja", "en"]) -> str:
        return self.name_ja if language == "ja" else self.name_en

    @property
    def curve_kind(self) -> CurveKind:
        return self.response.curve

    @cached_property
    def _by_metric(self) -> dict[str, Prior]:
        return {p.metric: p for p in self.priors}

    def prior(self, metric: str) -> Prior:
        """The prior of ``metric``.

        Raises:
            KeyError: the tactic has none.
        """
        try:
            return self._by_metric[metric]
        except KeyError:
            raise KeyError(f"tactic {self.id} has no prior {metric!r}; it has {sorted(self._by_metric)}") from None


def _normalise(text: str) -> str:
    """Width, case and every separator folded to single spaces."""
    return " ".join(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def is_organic(text: str) -> bool:
    """Whether a label says that somebody came without a tactic: ``direct``, 自然流入, その他."""
    return _normalise(text) in _ORGANIC


class Catalogue:
    """All tactics, and the words people use for them."""

    def __init__(self, tactics: Iterable[Tactic]) -> None:
        self.tactics: tuple[Tactic, ...] = tuple(tactics)
        self._by_id = {t.id: t for t in self.tactics}
        if len(self._by_id) != len(self.tactics):
            raise ConfigurationError("the catalogue holds a tactic id twice")
        self._exact: dict[str, str] = {}
        self._generic: set[str] = set()
        for tactic in self.tactics:
            for label in (tactic.id, tactic.name_en, tactic.name_ja, *tactic.aliases, *tactic.utm_labels):
                for key in {_normalise(label), self._compact(_normalise(label))}:
                    other = self._exact.setdefault(key, tactic.id)
                    if other != tactic.id:
                        raise ConfigurationError(f"the label {label!r} names both {other} and {tactic.id}")
            for label in tactic.generic_labels:
                key = _normalise(label)
                if self._exact.get(key) != tactic.id:
                    raise ConfigurationError(f"generic label {label!r} is no label of {tactic.id}")
                self._generic |= {key, self._compact(key)}
        japanese = sorted((k for k in self._exact if _JAPANESE.search(k) and " " not in k), key=len, reverse=True)
        # the look-ahead finds the longest label at every position, also where labels overlap
        self._japanese = re.compile(f"(?=({'|'.join(map(re.escape, japanese))}))")
        self._longest = max(len(k.split()) for k in self._exact)
        self._matched = lru_cache(maxsize=65_536)(self._match)

    @staticmethod
    def _compact(normalised: str) -> str:
        return normalised.replace(" ", "")

    def __iter__(self) -> Iterator[Tactic]:
        return iter(self.tactics)

    def __len__(self) -> int:
        return len(self.tactics)

    def __contains__(self, tactic_id: object) -> bool:
        return tactic_id in self._by_id

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self._by_id)

    def get(self, tactic_id: str) -> Tactic:
        """The tactic with this id.

        Raises:
            KeyError: there is none; the message suggests near ids.
        """
        try:
            return self._by_id[tactic_id]
        except KeyError:
            near = self.suggest(tactic_id)
            hint = f"; did you mean {', '.join(near)}?" if near else f"; known are {', '.join(self._by_id)}"
            raise KeyError(f"unknown tactic {tactic_id!r}{hint}") from None

    def match(self, text: str | None, platform: str | None = None) -> str | None:
        """The id of the tactic that ``text`` names, or ``None`` when it names none or several.

        ``text`` may be an id, a ja or en name, an alias, a UTM label, or a campaign name that contains one:
        a whole label wins; else the labels contained in the text decide, if they agree. English labels count as whole
        words (``line`` is not in ``online``), Japanese ones anywhere; a label inside a longer one does not count
        (``メルマガ`` in ``メルマガ広告``), nor does the bare name of a platform beside a more precise label
        of the same kind of cost (``google`` in ``google display``).

        Args:
            platform: the source the text comes from, where it is known; tactics of other platforms then do not count.
        """
        return self._matched(text, platform) if text else None

    def _match(self, text: str, platform: str | None) -> str | None:
        normal = _normalise(text)
        if not normal or normal in _ORGANIC:
            return None
        whole = self._exact.get(normal) or self._exact.get(self._compact(normal))
        if whole and self._allowed(whole, platform):
            return whole
        found = {span: tactic for span, tactic in self._spans(normal).items() if self._allowed(tactic[0], platform)}
        outer = [
            value
            for span, value in found.items()
            if not any(o != span and o[0] <= span[0] and span[1] <= o[1] for o in found)
        ]
        precise = {tactic for tactic, generic in outer if not generic}
        kinds = {self._by_id[tactic].cost.kind for tactic in precise}
        decided = precise | {
            tactic for tactic, generic in outer if generic and self._by_id[tactic].cost.kind not in kinds
        }
        return decided.pop() if len(decided) == 1 else None

    def _allowed(self, tactic_id: str, platform: str | None) -> bool:
        return platform is None or self._by_id[tactic_id].platform in (platform, None)

    def _spans(self, normal: str) -> dict[tuple[int, int], tuple[str, bool]]:
        """Labels inside a normalised text: (begin, end) in its compact form → (tactic, is the label generic)."""
        compact = self._compact(normal)
        found: dict[tuple[int, int], tuple[str, bool]] = {}
        for hit in self._japanese.finditer(compact):
            label = hit.group(1)
            found[hit.start(), hit.start() + len(label)] = (self._exact[label], label in self._generic)
        words = _SCRIPT_CHANGE.sub(" ", normal).split()
        begins = [0]
        for word in words:
            begins.append(begins[-1] + len(word))
        for first in range(len(words)):
            for last in range(first + 1, min(first + self._longest, len(words)) + 1):
                for label in (" ".join(words[first:last]), "".join(words[first:last])):
                    tactic_id = self._exact.get(label)
                    if tactic_id:
                        found[begins[first], begins[last]] = (tactic_id, label in self._generic)
        return found

    def suggest(self, text: str, count: int = 3) -> list[str]:
        """Ids of the tactics whose labels come nearest to ``text``, best first; empty when nothing is near."""
        return [tactic_id for tactic_id, _ in self.ranked(text, count)]

    def ranked(self, text: str, count: int = 3) -> list[tuple[str, float]]:
        """:meth:`suggest` with how near each comes, from 0.6 to 1."""
        normal = _normalise(text)
        compact = self._compact(normal)
        if not compact or normal in _ORGANIC:
            return []
        scores: dict[str, float] = {tactic_id: 0.9 for tactic_id, _ in self._spans(normal).values()}
        for label, tactic_id in self._exact.items():
            ratio = difflib.SequenceMatcher(None, compact, label).ratio()
            if len(compact) >= 3 and label.startswith(compact):
                ratio = max(ratio, 0.8)
            scores[tactic_id] = max(ratio, scores.get(tactic_id, 0.0))
        near = sorted((-score, tactic_id) for tactic_id, score in scores.items() if score >= 0.6)
        return [(tactic_id, -score) for score, tactic_id in near[:count]]


class EventPriors(_Model):
    """What is known of events as such, whatever the tactics."""

    landing_page: tuple[Prior, ...]
    show_up: tuple[Prior, ...]
    pacing: tuple[Prior, ...]
    factors: tuple[Prior, ...] = Field(description="How format, price and audience change a tactic's prior.")

    def get(self, group: Literal["landing_page", "show_up", "pacing", "factors"], metric: str) -> Prior:
        """One prior by group and metric.

        Raises:
            KeyError: there is none; the message lists those there are.
        """
        priors: tuple[Prior, ...] = getattr(self, group)
        for prior in priors:
            if prior.metric == metric:
                return prior
        raise KeyError(f"no {group} prior {metric!r}; known are {[p.metric for p in priors]}")


class Audiences(_Model):
    """Who is reached by more than one tactic: weights per audience, summing to at most 1."""

    names: tuple[str, ...]
    size: Prior
    growth: Prior
    organic: dict[str, float]
    channels: dict[str, dict[str, float]]
    tactics: dict[str, dict[str, float]]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for owner, weights in [("organic", self.organic), *self.channels.items(), *self.tactics.items()]:
            if set(weights) - set(self.names) or min(weights.values()) < 0 or sum(weights.values()) > 1 + 1e-9:
                raise ValueError(f"audiences of {owner}: weights of {', '.join(self.names)} that sum to at most 1")
        return self

    def reach(self, tactic: Tactic | None) -> dict[str, float]:
        """The audiences of a tactic, of what comes by itself for ``None``; nothing is known of a channel of its own."""
        if tactic is None:
            return self.organic
        return self.tactics.get(tactic.id) or self.channels.get(tactic.channel, {})


@cache
def _document() -> dict[str, Any]:
    text = files("turnout.tactics").joinpath("catalogue.yaml").read_text(encoding="utf-8")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    loaded: dict[str, Any] = yaml.load(text, Loader=loader)  # noqa: S506 - both are safe loaders
    return loaded


@cache
def load_catalogue() -> Catalogue:
    """The catalogue that ships with Turnout, validated, read once per process.

    Raises:
        ConfigurationError: two tactics share an id or a label.
        pydantic.ValidationError: an entry is malformed.
    """
    unknown = {t["asset"] for t in _document()["tactics"] if t["asset"]} - set(Assets.model_fields)
    if unknown:
        raise ConfigurationError(f"the catalogue names assets that a brief does not have: {sorted(unknown)}")
    return Catalogue(Tactic.model_validate(entry) for entry in _document()["tactics"])


@cache
def load_event_priors() -> EventPriors:
    """Show-up, pacing, landing-page and factor priors, read once per process."""
    document = _document()
    return EventPriors.model_validate({**document["event_priors"], "factors": document["factors"]})


@cache
def load_audiences() -> Audiences:
    """Which tactics reach the same people, read once per process."""
    return Audiences.model_validate(_document()["audiences"])
