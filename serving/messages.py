"""What a plan says in words, in Japanese and English."""

from __future__ import annotations

from typing import Final, Literal

from turnout.allocation import Unspent

Language = Literal["ja", "en"]

ASSETS: Final[dict[str, dict[Language, str]]] = {
    "email_list": {"ja": "メール配信先", "en": "size of the e-mail list"},
    "social_followers": {"ja": "SNSフォロワー", "en": "social followers"},
    "community_members": {"ja": "コミュニティ会員", "en": "community members"},
    "partners": {"ja": "協力企業・団体", "en": "partners"},
    "speakers": {"ja": "登壇者", "en": "speakers"},
    "employees": {"ja": "社員", "en": "employees"},
    "sales_contacts": {"ja": "営業の連絡先", "en": "sales contacts"},
    "site_visitors": {"ja": "サイト訪問者", "en": "site visitors"},
}

UNSPENT: Final[dict[Unspent, dict[Language, str]]] = {
    Unspent.nothing_to_buy: {"ja": "使える有料施策がない", "en": "no paid tactic can be used"},
    Unspent.at_maximum: {"ja": "どの有料施策も上限に達した", "en": "every paid tactic is at its maximum"},
    Unspent.not_worth_it: {
        "ja": "これ以上使っても申込がほとんど増えない",
        "en": "more money would bring almost no further registration",
    },
    Unspent.no_hours: {"ja": "残りの予算を使う工数がない", "en": "there are no staff hours left to use it"},
    Unspent.indivisible: {
        "ja": "残額では次の単位や最低出稿額に届かない",
        "en": "the rest is below the next unit or minimum spend",
    },
}

_TEXTS: Final[dict[str, dict[Language, str]]] = {
    # why a tactic is left out
    "excluded": {"ja": "条件で除外されています", "en": "a constraint excludes it"},
    "too_late": {
        "ja": "準備に{preparation}日、実施に最低{run}日かかります",
        "en": "it takes {preparation} day(s) to prepare and at least {run} to run",
    },
    "no_asset": {"ja": "{asset}が0です", "en": "the brief says there are none ({asset}: 0)"},
    "brings_nothing": {
        "ja": "このイベントでは効果が見込めません",
        "en": "it is not expected to bring anybody to this event",
    },
    "too_few": {
        "ja": "全力でも申込{most:.1f}件の見込みです",
        "en": "at its best it is expected to bring {most:.1f} registrations",
    },
    "not_worth_it": {
        "ja": "同じ費用や工数を使うなら他の施策の方が効果的です",
        "en": "the money or hours bring more elsewhere",
    },
    "over_budget": {"ja": "最低{minimum}が必要です", "en": "it needs at least {minimum}"},
    "over_maximum": {
        "ja": "最低出稿額{minimum}が、指定の上限{maximum}を超えます",
        "en": "its smallest useful spend {minimum} is above the maximum asked for, {maximum}",
    },
    "no_hours": {"ja": "最低{hours:.1f}時間が必要です", "en": "it needs at least {hours:.1f} hours"},
    "conflict": {"ja": "条件が両立しません: {what}", "en": "the constraints conflict: {what}"},
    # reasons
    "locked": {"ja": "金額は指定どおりに固定", "en": "the amount is locked by the brief"},
    "sends": {"ja": "配信日: {days}", "en": "goes out on {days}"},
    "referral": {
        "ja": "申込見込み{registrants:,.0f}人に紹介を依頼する前提",
        "en": "asks the {registrants:,.0f} registrants expected of the other tactics",
    },
    # warnings
    "simulated": {
        "ja": "モデルはシミュレーションデータで学習しています。実際の成果を示すものではありません",
        "en": "the models were trained on SIMULATED data: these numbers show how the tool works, not what to expect",
    },
    "benchmark_only": {
        "ja": "自社実績がないため、数字はすべて公開ベンチマークまたは推測です。区間は広めです",
        "en": "no own history yet: every number is a published benchmark or a guess, and intervals are wide",
    },
    "guesses": {
        "ja": "推測に基づく施策があります: {names}",
        "en": "resting on a guess nobody published: {names}",
    },
    "no_features": {
        "ja": "直近の実績特徴量がありません。DAG refresh_features を実行してください",
        "en": "there are no features of recent results; run the DAG refresh_features",
    },
    "stale_features": {
        "ja": "特徴量が{days}日前のものです。夜間処理を確認してください",
        "en": "the features are {days} days old; look at the nightly run",
    },
    "old_model": {
        "ja": "モデルは{until}までのデータしか知りません",
        "en": "the models know nothing after {until}",
    },
    "as_of": {
        "ja": "{as_of}時点の計画ですが、特徴量とモデルは現在のものです",
        "en": "planned as of {as_of}, but with the features and models of today",
    },
    "assumed": {
        "ja": "不明なため標準値で見積もった項目: {assets}",
        "en": "not given, so a typical figure is assumed: {assets}",
    },
    "converted": {
        "ja": "為替は{day}のレート({rates})で換算しています",
        "en": "converted at the rates of {day} ({rates})",
    },
    "beyond_tried": {
        "ja": "これまでの最高額を超える予算の施策があります: {names}。実績のない範囲の見込みです",
        "en": "more than was ever spent before, so the response there was never seen: {names}",
    },
    "constant_spend": {
        "ja": "毎回ほぼ同額のため、増減の効果が実績から分からない施策があります(公開ベンチマークで推定): {names}",
        "en": "always about the same was spent, so history cannot tell what another amount brings (the shape is the "
        "published benchmark's): {names}",
    },
    "goal_out_of_reach": {
        "ja": "目標{target:,}に対し見込みは{expected:,.0f}です。目標・予算・工数を見直してください",
        "en": "{expected:,.0f} are expected against a goal of {target:,}: reconsider the goal, the budget or the hours",
    },
    "over_capacity": {
        "ja": "参加見込み{expected:,.0f}人が定員{capacity:,}人を超えます",
        "en": "{expected:,.0f} attendees are expected, more than the capacity of {capacity:,}",
    },
    "not_proved": {
        "ja": "時間内に最適性を証明しきれませんでした(差は最大{gap:.1%})",
        "en": "the allocation was not proved best in time (at most {gap:.1%} below)",
    },
}  # fmt: skip


def text(key: str, language: Language, **values: object) -> str:
    """The sentence ``key`` with its values filled in."""
    return _TEXTS[key][language].format(**values)
