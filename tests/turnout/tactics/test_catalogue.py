"""The catalogue: complete, sourced, and found by the words people use."""

import pytest
from pydantic import ValidationError

from turnout.errors import ConfigurationError
from turnout.tactics import Catalogue, Prior, Tactic, load_catalogue, load_event_priors

CATALOGUE = load_catalogue()


def test_there_are_free_and_paid_tactics_of_every_kind_of_cost():
    assert len(CATALOGUE) == 32
    assert {t.cost.kind for t in CATALOGUE} == {"auction", "per_unit", "effort"}
    assert sum(t.is_paid for t in CATALOGUE) == 18
    assert len({t.curve_kind for t in CATALOGUE}) >= 3


def test_every_figure_names_its_source_and_guesses_say_so():
    priors = [p for t in CATALOGUE for p in t.priors]
    assert all(p.source.strip() for p in priors)
    assert all((p.kind == "guess") == p.source.startswith("guess") for p in priors)
    assert all(p.year is None or 2005 <= p.year <= 2026 for p in priors)
    assert sum(p.kind == "sourced" for p in priors) > 60


def test_every_tactic_has_names_in_both_languages_hours_and_a_window():
    for tactic in CATALOGUE:
        assert tactic.name("ja") != tactic.name("en")
        assert tactic.hours.for_units(1) > 0
        assert tactic.window.first_day >= tactic.lead_time_days > tactic.window.last_day or tactic.lead_time_days == 3


@pytest.mark.parametrize(
    ("text", "tactic"),
    [
        ("email", "own_email"), ("newsletter", "own_email"), ("mail", "own_email"), ("メルマガ", "own_email"),
        ("ﾒﾙﾏｶﾞ", "own_email"), ("ハウスリスト", "own_email"), ("自社メルマガ", "own_email"),
        ("メルマガ広告", "paid_newsletter"), ("号外メール（日経）", "paid_newsletter"),
        ("meta", "meta_ads"), ("facebook", "meta_ads"), ("fb", "meta_ads"), ("Instagram", "meta_ads"),
        ("Meta広告", "meta_ads"), ("Ｆａｃｅｂｏｏｋ広告", "meta_ads"), ("meta_ads", "meta_ads"),
        ("google", "google_search"), ("adwords", "google_search"), ("リスティング", "google_search"),
        ("google / cpc", "google_search"), ("Google ディスプレイ", "google_display"), ("GDN", "google_display"),
        ("Yahoo!ディスプレイ広告", "yahoo_display"), ("linkedin", "linkedin_ads"), ("InMail", "linkedin_msg"),
        ("line", "line_ads"), ("x", "x_ads"), ("twitter", "x_ads"), ("プレスリリース", "pr_release"),
        ("共催", "partner"), ("partner", "partner"), ("登壇者告知", "speaker_share"), ("connpass", "connpass"),
        ("peatix", "peatix"), ("Peatix広告", "platform_boost"), ("リマインドメール", "own_email_last"),
    ],
)  # fmt: skip
def test_the_usual_words_name_their_tactic(text, tactic):
    assert CATALOGUE.match(text) == tactic


@pytest.mark.parametrize(
    ("campaign", "tactic"),
    [
        ("2026-06 AIセミナー_Meta_リード獲得", "meta_ads"),
        ("【Meta】DXカンファレンス_コンバージョン", "meta_ads"),
        ("AI_Summit_LinkedIn_SponsoredContent", "linkedin_ads"),
        ("AI Summit 2026 | Search | JP", "google_search"),
        ("AIセミナーfacebook", "meta_ads"),
        ("Meta広告 リターゲティング", "retargeting"),
        ("utm_source=facebook&utm_medium=cpc", "meta_ads"),
    ],
)
def test_a_campaign_name_that_contains_a_label_is_matched(campaign, tactic):
    assert CATALOGUE.match(campaign) == tactic


@pytest.mark.parametrize(
    "text", ["", None, "direct", "オーガニック", "n/a", "online seminar", "謎の施策", "max", "headline"]
)
def test_what_names_no_tactic_matches_none(text):
    assert CATALOGUE.match(text) is None


def test_a_text_that_names_two_tactics_matches_none():
    assert CATALOGUE.match("LINE広告とプレスリリース") is None


def test_a_known_platform_rules_the_others_out():
    assert CATALOGUE.match("InMail と GDN") is None
    assert CATALOGUE.match("InMail と GDN", platform="google_ads") == "google_display"
    assert CATALOGUE.match("LinkedIn audience test, Meta", platform="meta_ads") == "meta_ads"


@pytest.mark.parametrize("tactic", CATALOGUE.tactics, ids=lambda t: t.id)
def test_every_label_of_a_tactic_leads_back_to_it(tactic):
    for label in (tactic.id, tactic.name_en, tactic.name_ja, *tactic.aliases, *tactic.utm_labels):
        assert CATALOGUE.match(label) == tactic.id, label


def test_near_words_are_suggested():
    assert "own_email" in CATALOGUE.suggest("newslettr")
    assert CATALOGUE.suggest("meta_adz")[0] == "meta_ads"
    assert CATALOGUE.suggest("謎の施策") == []


def test_an_unknown_id_is_refused_with_suggestions():
    with pytest.raises(KeyError, match="did you mean meta_ads"):
        CATALOGUE.get("meta_adds")


def test_one_label_cannot_name_two_tactics():
    one, two = CATALOGUE.get("peatix"), CATALOGUE.get("connpass")
    with pytest.raises(ConfigurationError, match="both"):
        Catalogue([one, two.model_copy(update={"aliases": ("peatix",)})])


def test_a_response_without_its_prior_is_refused():
    entry = CATALOGUE.get("meta_ads").model_dump()
    entry["response"]["cost"] = "cpa_of_nowhere"
    with pytest.raises(ValidationError, match="cpa_of_nowhere"):
        Tactic.model_validate(entry)


def test_a_prior_reads_its_range_as_ninety_percent():
    prior = Prior(metric="cpa", low=4000, typical=8000, high=20_000, source="s", kind="sourced")
    assert prior.value == 8000
    assert prior.log_sd == pytest.approx(0.489, abs=1e-3)
    assert Prior(metric="m", low=40, high=100, source="s", kind="sourced").value == pytest.approx(63.2, abs=0.1)
    assert Prior(metric="m", typical=1, source="s", kind="sourced").log_sd is None
    assert Prior(metric="m", low=0, typical=4, high=25, source="s", kind="guess").log_sd == pytest.approx(
        1.114, abs=1e-3
    )


def test_a_disordered_range_is_refused():
    with pytest.raises(ValidationError, match="low <= typical <= high"):
        Prior(metric="m", low=3, typical=2, source="s", kind="guess")


def test_event_level_priors_are_there():
    priors = load_event_priors()
    assert priors.get("show_up", "free_japan_peatix").value == pytest.approx(0.675)
    assert priors.get("pacing", "webinar_share_last_7_days").value == pytest.approx(0.58)
    assert priors.get("landing_page", "cvr_visit_to_reg_webinar").value == pytest.approx(0.30)
    with pytest.raises(KeyError, match="known are"):
        priors.get("pacing", "nonsense")
