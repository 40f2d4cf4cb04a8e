"""Where a registration came from: UTM parameters, tracking links and referrers → the tactic of the catalogue.

A source alone does not say whether it was paid for: ``facebook`` is an ad with the medium ``cpc`` and the company's own
post with ``social``. :func:`match_utm` decides by both, and by the campaign where these two leave it open.

Paid mediums are those of Google Analytics' default channel groups (``.*cp.*``, ``ppc``, ``retargeting``, ``paid.*``;
support.google.com/analytics/answer/9756891) and what teams in Japan write for them.

A combination is kept as one label: the source as it stands where there is nothing else, else
``utm_source=facebook&utm_medium=cpc&utm_campaign=spring`` (:func:`utm_label`), which :func:`match_label` reads again.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlsplit

from turnout.tactics.catalogue import Catalogue, is_organic, load_catalogue

_PARAMETERS = ("utm_source", "utm_medium", "utm_campaign")


class _Brand(NamedTuple):
    """What a name in ``utm_source`` stands for: the tactic where it was paid for, and where it was not."""

    paid: str | None
    free: str | None
    display: str | None = None
    video: str | None = None
    message: str | None = None


_UNKNOWN = _Brand(None, None)
_META = _Brand("meta_ads", "own_social")
_LINKEDIN = _Brand("linkedin_ads", "own_social", message="linkedin_msg")
_X = _Brand("x_ads", "own_social")
_GOOGLE = _Brand("google_search", None, display="google_display", video="youtube")
_YAHOO = _Brand("yahoo_search", None, display="yahoo_display")

_BRANDS: dict[str, _Brand] = {
    **dict.fromkeys(
        ("facebook", "fb", "meta", "instagram", "ig", "threads", "フェイスブック", "インスタグラム"), _META
    ),
    **dict.fromkeys(("linkedin", "li", "lnkd", "リンクトイン", "リンクドイン"), _LINKEDIN),
    **dict.fromkeys(("x", "twitter", "tw", "ツイッター"), _X),
    **dict.fromkeys(("line",), _Brand("line_ads", "own_social")),
    **dict.fromkeys(("youtube", "yt", "ユーチューブ"), _Brand("youtube", "own_social")),
    **dict.fromkeys(("google", "adwords", "gads", "googleads", "グーグル"), _GOOGLE),
    **dict.fromkeys(("yahoo", "yahoojapan", "ヤフー"), _YAHOO),
    "connpass": _Brand("platform_boost", "connpass"),
    "peatix": _Brand("platform_boost", "peatix"),
    "doorkeeper": _Brand("platform_boost", "doorkeeper"),
    **dict.fromkeys(("eventbrite", "luma", "meetup"), _Brand("platform_boost", "global_platform")),
}

#: Host of a referrer → the name in ``utm_source``; subdomains count too.
_HOSTS: dict[str, str] = {
    "facebook.com": "facebook", "fb.com": "facebook", "fb.me": "facebook", "instagram.com": "instagram",
    "linkedin.com": "linkedin", "lnkd.in": "linkedin", "twitter.com": "twitter", "x.com": "x", "t.co": "twitter",
    "line.me": "line", "youtube.com": "youtube", "youtu.be": "youtube", "yahoo.co.jp": "yahoo", "yahoo.com": "yahoo",
    "connpass.com": "connpass", "peatix.com": "peatix", "doorkeeper.jp": "doorkeeper", "doorkeeperhq.com": "doorkeeper",
    "lu.ma": "luma", "luma.com": "luma", "meetup.com": "meetup", "prtimes.jp": "prtimes", "note.com": "note",
    "qiita.com": "qiita", "zenn.dev": "zenn", "slack.com": "slack", "discord.com": "discord",
}  # fmt: skip
#: Sites with one host per country: google.co.jp, eventbrite.de.
_HOST_NAMES = re.compile(r"(?:^|\.)(google|eventbrite|yahoo|bing|duckduckgo)\.[a-z.]{2,6}$")

_PAID = re.compile(
    r"cp[acmvl]?$|cp[acmvl]\b|^ppc|\bppc\b|^paid|\bpaid|^ads?$|\bads?\b|^sem$|sponsored|promoted|boost|^listing|広告|リスティング|有料"
)
_DISPLAY = re.compile(r"display|banner|gdn|demand ?gen|pmax|ディスプレイ|バナー")
_VIDEO = re.compile(r"video|youtube|cpv|動画")
_RETARGETING = re.compile(r"re ?target|re ?market|リタゲ|リターゲ|リマケ|リマーケ")
_MESSAGE = re.compile(r"in ?mail|message|メッセージ")
_EMAIL = re.compile(r"^e ?mail|\be ?mail\b|^mail$|newsletter|メール|メルマガ|mailmag")
_SOCIAL = re.compile(r"social|^sns$|\bsns\b|^post$|organic ?post|community|投稿")
_REFERRAL = re.compile(r"^(?:referral|referrer|link)$|参照")
_ORGANIC_SEARCH = frozenset(("organic", "自然検索", "オーガニック"))
_SEARCH_ENGINES = frozenset(("google", "yahoo", "bing", "duckduckgo", ""))


def _normal(text: str | None) -> str:
    """Width and case folded, separators to single spaces; Google's ``(none)`` and ``(not set)`` are nothing."""
    if not text:
        return ""
    plain = unicodedata.normalize("NFKC", text).casefold().strip()
    if plain in ("(none)", "(not set)", "(direct)", "(not provided)", "none", "null", "-", "--"):
        return ""
    return " ".join(re.findall(r"[^\W_]+", plain))


def _source_name(source: str | None) -> str:
    """``utm_source`` or a referrer as a plain name: ``https://l.facebook.com/…`` → facebook, ``FB_ads`` → fb ads."""
    if not source:
        return ""
    plain = unicodedata.normalize("NFKC", source).casefold().strip()
    host = urlsplit(plain).netloc if "://" in plain else plain.split("/", 1)[0]
    host = host.rsplit("@", 1)[-1].split(":", 1)[0]
    if "." in host and " " not in host:
        for known, name in _HOSTS.items():
            if host == known or host.endswith(f".{known}"):
                return name
        if found := _HOST_NAMES.search(host):
            return found.group(1)
        if "://" in plain:
            return _normal(host.removeprefix("www."))
    return _normal(source)


def _brand(name: str) -> _Brand | None:
    """The brand a source's name is, or begins with: ``facebook``, ``fb ads``, ``linkedin company page``."""
    return _BRANDS.get(name) or _BRANDS.get(name.split(" ", 1)[0])


def match_utm(
    source: str | None, medium: str | None = None, campaign: str | None = None, catalogue: Catalogue | None = None
) -> str | None:
    """The tactic that UTM parameters name, or ``None`` where they name none, or visitors who came by themselves.

    Args:
        source: ``utm_source``, or the address of a referring page.
        campaign: only asked where source and medium leave the tactic open: a campaign called ``retargeting_june``.
        catalogue: the one Turnout ships with by default.

    >>> match_utm("facebook", "cpc"), match_utm("facebook", "social"), match_utm("google", "organic")
    ('meta_ads', 'own_social', None)
    """
    return _matched(source or "", medium or "", campaign or "", catalogue or load_catalogue())


@dataclass(frozen=True)
class _Visit:
    """What is known of where somebody came from: the source's plain name, the medium and campaign folded."""

    source: str
    name: str
    how: str
    campaign: str
    catalogue: Catalogue

    @property
    def brand(self) -> _Brand:
        return _brand(self.name) or _UNKNOWN


@lru_cache(maxsize=16_384)
def _matched(source: str, medium: str, campaign: str, catalogue: Catalogue) -> str | None:
    visit = _Visit(source, _source_name(source), _normal(medium), _normal(campaign), catalogue)
    return _BY_KIND[_kind(visit)](visit)


def _kind(visit: _Visit) -> str:
    """What the medium says: one of the keys of ``_BY_KIND``. The first that fits counts."""
    how = visit.how
    if not how:
        return "unsaid"
    is_mail = _EMAIL.search(how) is not None
    is_paid = _PAID.search(how) is not None or (_DISPLAY.search(how) is not None and not is_mail)
    if _RETARGETING.search(how) or (is_paid and _RETARGETING.search(visit.campaign)):
        return "retargeting"
    found = (
        ("paid", is_paid),
        ("search", how in _ORGANIC_SEARCH and visit.name in _SEARCH_ENGINES),
        ("email", is_mail),
        ("message", bool(_MESSAGE.search(how)) and visit.brand.message is not None),
        ("social", bool(_SOCIAL.search(how)) or how in _ORGANIC_SEARCH),
        ("referral", bool(_REFERRAL.search(how))),
        ("video", bool(_VIDEO.search(how)) and visit.brand.video is not None),
    )
    return next((kind for kind, fits in found if fits), "other")


def _unsaid(visit: _Visit) -> str | None:
    """No medium: the catalogue's own words for the source. An address is a link somebody followed, so nothing paid."""
    if not visit.name:
        return _named(visit.catalogue, visit.campaign)
    if visit.name == _normal(visit.source):
        return visit.catalogue.match(visit.source)
    return visit.brand.free if _brand(visit.name) else visit.catalogue.match(visit.name)


def _paid(visit: _Visit) -> str | None:
    said = f"{visit.name} {visit.how}"
    if _brand(visit.name) is not None:
        return _paid_brand(visit, f"{said} {visit.campaign}")
    if _EMAIL.search(said):
        return "paid_newsletter"
    named = [visit.catalogue.match(text) for text in (said, visit.name, visit.how, visit.campaign)]
    return next((t for t in named if t is not None and visit.catalogue.get(t).is_paid), None)


def _paid_brand(visit: _Visit, said: str) -> str | None:
    brand = visit.brand
    special = (
        (brand.message, _MESSAGE),
        (brand.video, _VIDEO),
        (brand.display, _DISPLAY),
    )
    for tactic, words in special:
        if tactic is not None and words.search(said):
            return tactic
    # a precise name in the campaign wins among the platform's own tactics: facebook / cpc / fb_traffic_june
    named = visit.catalogue.match(visit.campaign)
    if named is not None and brand.paid is not None:
        chosen, main = visit.catalogue.get(named), visit.catalogue.get(brand.paid)
        if chosen.is_paid and chosen.platform is not None and chosen.platform == main.platform:
            return named
    return brand.paid


def _email(visit: _Visit) -> str:
    named = (_free(visit.catalogue, visit.name), _free(visit.catalogue, visit.campaign))
    return next((tactic for tactic in named if tactic not in (None, "own_email")), None) or "own_email"


def _social(visit: _Visit) -> str | None:
    free = visit.brand.free if _brand(visit.name) else _free(visit.catalogue, visit.name)
    return free or ("own_social" if _SOCIAL.search(visit.how) else None)


def _referral(visit: _Visit) -> str | None:
    return visit.brand.free if _brand(visit.name) else _free(visit.catalogue, visit.name)


def _other(visit: _Visit) -> str | None:
    """A medium of the team's own: what source and medium say together, then each of them."""
    known = visit.catalogue
    together = known.match(f"{visit.name} {visit.how}") or known.match(visit.how)
    return together or _named(known, visit.name) or _named(known, visit.campaign)


_BY_KIND: dict[str, Callable[[_Visit], str | None]] = {
    "unsaid": _unsaid,
    "retargeting": lambda _: "retargeting",
    "paid": _paid,
    "search": lambda _: None,
    "email": _email,
    "message": lambda visit: visit.brand.message,
    "social": _social,
    "referral": _referral,
    "video": lambda visit: visit.brand.video,
    "other": _other,
}


def _free(catalogue: Catalogue, text: str) -> str | None:
    """The tactic a text names, if it is one that costs no money."""
    tactic = catalogue.match(text)
    return tactic if tactic is not None and not catalogue.get(tactic).is_paid else None


def _named(catalogue: Catalogue, text: str) -> str | None:
    return catalogue.match(text) if text and not is_organic(text) else None


def utm_label(source: str | None, medium: str | None = None, campaign: str | None = None) -> str | None:
    """One text for UTM parameters: the source alone where there is nothing else, else in the form of a link's end.

    >>> utm_label("facebook", "cpc"), utm_label("twitter")
    ('utm_source=facebook&utm_medium=cpc', 'twitter')
    """
    values = [(v or "").strip() for v in (source, medium, campaign)]
    if values[0] and not any(values[1:]):
        return values[0]
    pairs = [(name, v) for name, v in zip(_PARAMETERS, values, strict=True) if v]
    # only what would end a value early is encoded, so that the label stays readable in any language
    return "&".join(f"{n}={re.sub(r'[%&=+#]', lambda m: quote(m.group()), v)}" for n, v in pairs) or None


def match_label(label: str | None, catalogue: Catalogue | None = None) -> str | None:
    """The tactic a registration's source label names: UTM parameters, ``source / medium``, an address, or any words.

    >>> match_label("utm_source=facebook&utm_medium=social"), match_label("facebook / cpc"), match_label("メルマガ")
    ('own_social', 'meta_ads', 'own_email')
    """
    if not label or not (text := label.strip()):
        return None
    known = catalogue or load_catalogue()
    parameters = parameters_of(text)
    if parameters is not None:
        return match_utm(*parameters, known)
    parts = [p.strip() for p in text.split(" / ")]
    if len(parts) in (2, 3) and all(parts):
        return match_utm(parts[0], parts[1], parts[2] if len(parts) == 3 else None, known)
    if "://" in text:
        return match_utm(text, catalogue=known)
    return known.match(text)


def parameters_of(text: str) -> tuple[str | None, str | None, str | None] | None:
    """(source, medium, campaign) of a link or of a link's end; ``None`` where it holds none of them."""
    if "utm_" not in text:
        return None
    query = urlsplit(text).query if "://" in text else text.lstrip("?")
    found = dict(parse_qsl(query))
    values = tuple(found.get(name) for name in _PARAMETERS)
    return (values[0], values[1], values[2]) if any(values) else None
