"""UTM parameters, referrers and labels: what was paid for is not what was posted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.tactics import load_catalogue, match_label, match_utm, utm_label
from turnout.tactics.utm import parameters_of


@pytest.mark.parametrize(
    ("source", "medium", "campaign", "tactic"),
    [
        # the same platform, paid for or not
        ("facebook", "cpc", None, "meta_ads"),
        ("facebook", "paid_social", None, "meta_ads"),
        ("facebook", "paid-social", "ai_seminar", "meta_ads"),
        ("ig", "paidsocial", None, "meta_ads"),
        ("facebook", "social", None, "own_social"),
        ("Facebook", "Organic Social", None, "own_social"),
        ("facebook", "SNS", None, "own_social"),
        ("fb", "広告", None, "meta_ads"),
        ("linkedin", "cpc", None, "linkedin_ads"),
        ("linkedin", "inmail", None, "linkedin_msg"),
        ("linkedin", "sponsored", "message_ads_june", "linkedin_msg"),
        ("linkedin", "social", None, "own_social"),
        ("twitter", "cpc", None, "x_ads"),
        ("x", "post", None, "own_social"),
        ("line", "cpc", None, "line_ads"),
        ("line", "sns", None, "own_social"),
        ("google", "cpc", None, "google_search"),
        ("google", "cpc", "gdn_retargeting_0601", "retargeting"),
        ("google", "display", None, "google_display"),
        ("google", "cpc", "demandgen_spring", "google_display"),
        ("google", "cpc", "youtube_instream", "youtube"),
        ("google", "organic", None, None),
        ("yahoo", "organic", None, None),
        ("yahoo", "cpc", None, "yahoo_search"),
        ("yahoo", "display", None, "yahoo_display"),
        ("criteo", "retargeting", None, "retargeting"),
        ("facebook", "cpc", "fb_traffic", "meta_traffic"),
        ("facebook", "cpc", "linkedin_ads", "meta_ads"),
        # mails
        ("newsletter", "email", None, "own_email"),
        ("sendgrid", "email", "ai_2026", "own_email"),
        ("hubspot", "email", None, "own_email"),
        ("sales", "email", None, "sales_invite"),
        ("partner", "email", None, "partner"),
        ("crm", "email", "last_call", "own_email_last"),
        ("itmedia", "paid_email", None, "paid_newsletter"),
        ("mailmag", "メルマガ", None, "own_email"),
        # event platforms, free and boosted
        ("connpass", "referral", None, "connpass"),
        ("connpass", "cpc", None, "platform_boost"),
        ("peatix", "event_page", None, "peatix"),
        ("eventbrite", "social", None, "global_platform"),
        # links followed without a tag
        ("https://l.facebook.com/", None, None, "own_social"),
        ("https://t.co/abc", None, None, "own_social"),
        ("https://connpass.com/event/1/", None, None, "connpass"),
        ("https://www.google.co.jp/", None, None, None),
        ("m.facebook.com", "referral", None, "own_social"),
        ("slack", "community", None, "community_post"),
        ("employee", "social", None, "employee_share"),
        ("speaker", "social", None, "speaker_share"),
        ("somebody", "social", None, "own_social"),
        # nothing said
        ("(direct)", "(none)", None, None),
        ("direct", None, None, None),
        ("", "", "", None),
        ("(not set)", "(not set)", "(not set)", None),
        ("unheard-of", "cpc", None, None),
        # one word, as before
        ("facebook", None, None, "meta_ads"),
        ("メルマガ", None, None, "own_email"),
    ],
)  # fmt: skip
def test_source_medium_and_campaign_together_name_the_tactic(source, medium, campaign, tactic):
    assert match_utm(source, medium, campaign) == tactic


@pytest.mark.parametrize(
    ("label", "tactic"),
    [
        ("utm_source=facebook&utm_medium=cpc", "meta_ads"),
        ("?utm_source=facebook&utm_medium=social&utm_campaign=x", "own_social"),
        ("https://example.com/lp?utm_source=google&utm_medium=cpc", "google_search"),
        ("facebook / social", "own_social"),
        ("facebook / cpc", "meta_ads"),
        ("google / organic", None),
        ("(direct) / (none)", None),
        ("Direct / unknown", None),
        ("Facebook/Instagram広告", "meta_ads"),
        ("プレスリリース", "pr_release"),
        ("", None),
        (None, None),
    ],
)
def test_labels_in_every_form(label, tactic):
    assert match_label(label) == tactic


def test_a_label_says_everything_and_is_read_again():
    assert utm_label("twitter") == "twitter"
    assert utm_label(None, None, None) is None
    assert utm_label("", "cpc") == "utm_medium=cpc"
    label = utm_label("facebook", "cpc", "春 & 夏 = 100%+")
    assert label is not None
    assert label.startswith("utm_source=facebook&utm_medium=cpc&utm_campaign=春")
    assert parameters_of(label) == ("facebook", "cpc", "春 & 夏 = 100%+")


@given(st.text(), st.text(), st.text())
def test_any_text_names_a_tactic_of_the_catalogue_or_none(source, medium, campaign):
    known = load_catalogue()
    for found in (match_utm(source, medium, campaign), match_label(source), match_label(utm_label(source, medium))):
        assert found is None or found in known
