"""The words of the night's message, in Japanese and English."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

Language = Literal["ja", "en"]

WORDS: Final[Mapping[Language, Mapping[str, str]]] = {
    "en": {
        "title": "Turnout {night}: {urgent} to act on, {others} to know",
        "quiet_title": "Turnout {night}: all fine",
        "update": "Update – {title}",
        "failed": "FAILED", "stopped": "STOPPED", "refused": "NOT READ", "quarantine": "Quarantine", "stale": "Late",
        "unmapped": "No event", "warning": "Odd", "model": "Predictions",
        "places": "{count} places", "registrations": "{count} registrations",
        "more": "… and {count} more: turnout report night",
        "counts": "{rows} rows from {files} files and slices loaded, {quarantined} in quarantine; "
        "{runs} runs, {failed} failed.",
        "told": "{count} told on earlier mornings are still there.",
        "models": "Models: {what}.",
        "docs": "Checks: {docs}",
    },
    "ja": {
        "title": "Turnout {night}：要対応 {urgent} 件、確認 {others} 件",
        "quiet_title": "Turnout {night}：異常なし",
        "update": "続報 – {title}",
        "failed": "【失敗】", "stopped": "【停止】", "refused": "【読めず】", "quarantine": "隔離", "stale": "遅れ",
        "unmapped": "イベント未紐付け", "warning": "注意", "model": "予測",
        "places": "{count} 件", "registrations": "申込 {count} 件",
        "more": "… ほか {count} 件：turnout report night",
        "counts": "取り込み {rows} 行（{files} ファイル・区間）、隔離 {quarantined} 行。"
        "実行 {runs} 回、失敗 {failed} 回。",
        "told": "以前の朝に知らせた {count} 件が続いています。",
        "models": "モデル：{what}。",
        "docs": "検査結果：{docs}",
    },
}  # fmt: skip

#: Code → what it is, in (English, Japanese). Checks that are not here are named by their code.
_CODES: Final[Mapping[str, tuple[str, str]]] = {
    "run_failed": ("a run ended in an error", "処理がエラーで終了"),
    "pipeline_failed": ("the pipeline failed", "パイプラインが失敗"),
    "access_denied": ("the platform denies access", "媒体がアクセスを拒否"),
    "source_fault": ("the platform refuses the request", "媒体が要求を拒否"),
    "source_unavailable": ("the platform did not answer", "媒体が応答せず"),
    "stale": ("newest day is older than usual", "最新の日付がいつもより古い"),
    "unmapped": ("campaigns that spend and belong to no event", "費用があるのにイベント未紐付けのキャンペーン"),
    "mostly_faulty": ("most rows are faulty", "行の大半に誤り"),
    "everything_twice": ("everything is there twice", "すべての行が二重"),
    "repeated_rows": ("some rows are there twice", "一部の行が二重"),
    "schema_change": ("a column is empty that never was", "いつも値のある列が空"),
    "double_export": ("two accounts report the same", "二つのアカウントが同じ数字"),
    "missing_days": ("days are missing", "抜けている日がある"),
    "days_gone": ("days are gone that were there", "あった日が消えた"),
    "restated_out_of_proportion": ("closed days lost or doubled their sums", "確定した日の合計が半減・倍増"),
    "restated_sums": ("closed days changed", "確定した日の数字が変化"),
    "currency_changed": ("the currency changed", "通貨が変わった"),
    "amount_scale": ("amounts are in another unit", "金額の単位が違う"),
    "spend_out_of_proportion": ("spend out of all proportion", "費用が桁違い"),
    "spend_jump": ("spend jumped", "費用が急増"),
    "cost_drift": ("cost per click drifted", "クリック単価が急変"),
    "click_rate_drift": ("click rate drifted", "クリック率が急変"),
    "conversion_drift": ("conversion rate drifted", "コンバージョン率が急変"),
    "few_rows": ("far fewer rows than usual", "行がいつもより大幅に少ない"),
    "many_rows": ("far more rows than usual", "行がいつもより大幅に多い"),
    "unfinished_day": ("an unfinished day passes for a whole one", "途中の日が確定扱い"),
    "date_in_future": ("days to come", "未来の日付"),
    "open_rate_drift": ("open rate drifted", "開封率が急変"),
    "mail_click_drift": ("mail click rate drifted", "メールのクリック率が急変"),
    "bounce_drift": ("many mails bounce", "不達が多い"),
    "delivery_drift": ("few mails are delivered", "配信完了が少ない"),
    "spam_reports": ("many spam reports", "迷惑メール報告が多い"),
    "mails_jump": ("far more mails than usual", "配信数が急増"),
    "registrations_jump": ("registrations jumped", "申込が急増"),
    "cancellations_jump": ("cancellations jumped", "キャンセルが急増"),
    "show_up_drift": ("attendance is odd", "参加率が不自然"),
    "attended_before_event": ("attended before the event", "開催前なのに参加済み"),
    "far_from_event": ("registered long before or after the event", "申込日が開催日から離れすぎ"),
    "model_retrain_worse": ("a new model was worse and does not serve", "新しいモデルは劣るため不採用"),
    "model_bias": ("predictions are off to one side", "予測が片側に偏り"),
    "model_tactic_bias": ("predictions of a tactic are off to one side", "施策の予測が片側に偏り"),
    "model_wape": ("larger errors than in the backtest", "誤差が検証時より大きい"),
    "model_coverage_80": ("intervals do not hold what they promise", "予測区間が合わない"),
    "model_psi": ("features have drifted", "特徴量の分布が変化"),
    "model_missing": ("features are not delivered any more", "特徴量が届いていない"),
    "model_restated": ("outcomes were restated", "実績が訂正された"),
    "model_ab": ("the A/B test is decided", "A/Bテストに結論"),
    "model_more": ("more of the kind", "ほかにも"),
    "missing": ("a value is missing", "必須の値がない"),
    "wrong_type": ("not a number or date", "数値・日付でない"),
    "out_of_range": ("out of range", "範囲外の値"),
    "implausible_date": ("implausible date", "ありえない日付"),
    "duplicate": ("twice", "重複"),
    "clicks_over_impressions": ("more clicks than impressions", "クリックが表示回数を超過"),
    "unknown_currency": ("unknown currency", "不明な通貨"),
}  # fmt: skip


def what(code: str, language: Language) -> str:
    """What a code stands for."""
    words = _CODES.get(code)
    return code.replace("_", " ") if words is None else words[language == "ja"]
