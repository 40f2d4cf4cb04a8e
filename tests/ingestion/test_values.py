"""Cells as people and platforms write them."""

# ruff: noqa: DTZ001 - a spreadsheet's dates have no zone

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion import values
from ingestion.values import (
    CellError,
    DateColumn,
    Formula,
    NumberColumn,
    find_moments,
    mojibake,
    parse_count,
    parse_date,
    parse_integer,
    parse_money,
    parse_number,
    parse_percent,
    parse_text,
    parse_timestamp,
)

TOKYO = ZoneInfo("Asia/Tokyo")
TODAY = date(2026, 11, 25)


def code_of(parse, *arguments, **options) -> str:
    with pytest.raises(CellError) as caught:
        parse(*arguments, **options)
    return caught.value.code


# --- numbers and money ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("1234", "1234"),
        ("1,234.56", "1234.56"),
        ("1.234,56", "1234.56"),
        ("1 234,56", "1234.56"),
        ("1\u202f234,56", "1234.56"),
        ("1'234.50", "1234.50"),
        ("12,34,567.5", "1234567.5"),
        ("1,234,567", "1234567"),
        ("1.234.567", "1234567"),
        ("572,51", "572.51"),
        ("0,339", "0.339"),
        ("1.7967991533", "1.7967991533"),
        ("1,234", "1234"),
        ("1.234", "1.234"),
        ("１２，３４５", "12345"),
        ("（１，２３４）", "-1234"),
        ("(1,234)", "-1234"),
        ("△1,234", "-1234"),
        ("▲５", "-5"),
        ("−5", "-5"),
        ("5-", "-5"),
        ("+5", "5"),
        ("120万", "1200000"),
        ("1.2億", "120000000"),
        ("1億2,000万", "120000000"),
        ("３千", "3000"),
        ("12k", "12000"),
        ("1.2E+05", "120000"),
        ("1,200名", "1200"),
        ("約100人", "100"),
        ("'007", "7"),
        (".5", "0.5"),
        ("5.", "5"),
        (1234, "1234"),
        (0.1, "0.1"),
        (Decimal("1.50"), "1.5"),
    ],
)
def test_numbers_in_every_way_people_write_them(cell, number):
    assert parse_number(cell) == Decimal(number)


@pytest.mark.parametrize(
    "cell", ["", " ", "--", " --", "-", "—", "n/a", "N/A", "#N/A", "不明", None, float("nan"), "\xa0"]
)
def test_what_says_no_value_is_unknown_not_zero(cell):
    assert parse_number(cell) is None
    assert parse_money(cell) is None
    assert parse_count(cell) is None
    assert parse_percent(cell) is None
    assert parse_date(cell) is None


@pytest.mark.parametrize("cell", ["< 10%", "> 90 %", "<10", "＞ ９０％", "≥ 5", "10%未満", "90%以上", "1,000以上"])
def test_a_bound_is_unknown_never_its_number(cell):
    assert parse_number(cell) is None
    assert parse_percent(cell) is None


@pytest.mark.parametrize(
    ("cell", "amount", "currency"),
    [
        ("¥1,200,000", 1200000, "JPY"),
        ("￥１，２００", 1200, "JPY"),
        ("120万円", 1200000, "JPY"),
        ("1,000円(税抜)", 1000, "JPY"),
        ("税込1,100円", 1100, "JPY"),
        ("$1,234.56", Decimal("1234.56"), "USD"),
        ("1.234,56 €", Decimal("1234.56"), "EUR"),
        ("R$ 1.234,50", Decimal("1234.5"), "BRL"),
        ("USD 20", 20, "USD"),
        ("20 EUR", 20, "EUR"),
        ("£5", 5, "GBP"),
        ("1200", 1200, None),
        (1200.5, Decimal("1200.5"), None),
    ],
)
def test_money_keeps_the_currency_its_cell_states(cell, amount, currency):
    found = parse_money(cell)
    assert found is not None
    assert (found.amount, found.currency) == (amount, currency)


@pytest.mark.parametrize(
    ("cell", "code"),
    [
        ("abc", "not_a_number"),
        ("12 abc", "not_a_number"),
        ("1,2,3", "not_a_number"),
        ("1.2.3,4,5", "not_a_number"),
        (".", "not_a_number"),
        ("=1+1", "formula"),
        (Formula("=SUM(A1:A3)"), "formula"),
        ("#REF!", "spreadsheet_error"),
        (True, "not_a_number"),
        (date(2026, 1, 1), "not_a_number"),
        ("1e99", "number_too_large"),
        ("9" * 40, "number_too_large"),
        (math.inf, "not_a_number"),
        ("1億2億", "not_a_number"),
        ("-", None),
    ],
)
def test_what_is_no_number_is_refused_with_a_reason(cell, code):
    if code is None:
        assert parse_number(cell) is None
    else:
        assert code_of(parse_number, cell) == code


def test_a_message_names_the_value_and_what_is_allowed():
    with pytest.raises(CellError, match=r"'たくさん' is not a number; write digits only, for example 1200"):
        parse_number("たくさん")
    with pytest.raises(CellError, match=r"'-500' is negative; an amount here is 0 or more"):
        parse_money("-500")
    with pytest.raises(CellError, match=r"'=1\+1' is a formula.*paste it as values"):
        parse_money("=1+1")


def test_money_may_be_negative_only_where_asked():
    assert code_of(parse_money, "-500") == "negative"
    amount = parse_money("-500", allow_negative=True)
    assert amount is not None
    assert amount.amount == -500


def test_counts_are_whole_and_group_by_any_separator():
    assert parse_count("1,479") == 1479
    assert parse_count("1.479") == 1479
    assert parse_count("1\xa0479") == 1479
    assert parse_integer("-3") == -3
    assert parse_count(5.0) == 5
    assert code_of(parse_count, "12.5") == "not_whole"
    assert code_of(parse_count, "-3") == "negative"


@pytest.mark.parametrize(
    ("cell", "share"),
    [
        ("1.8%", "0.018"),
        ("１．８％", "0.018"),
        ("0,339\xa0%", "0.00339"),
        ("100%", "1"),
        ("%5", "0.05"),
        (0.018, "0.018"),
        ("0.5", "0.5"),
    ],
)
def test_percentages_are_fractions(cell, share):
    assert parse_percent(cell) == Decimal(share)


def test_a_bare_number_above_one_is_no_fraction():
    assert code_of(parse_percent, "1.8") == "not_a_percentage"
    assert parse_percent("1.8", bare="percent") == Decimal("0.018")
    assert code_of(parse_percent, "abc%") == "not_a_number"


def test_the_decimal_mark_is_learnt_per_column():
    spent, dwell = NumberColumn(), NumberColumn()
    for cell in ("572,51", "1.198,94", "2653"):
        spent.add(cell)
    for cell in ("1.7967991533", "3.361"):
        dwell.add(cell)
    assert spent.decide(".") == ","
    assert dwell.decide(",") == "."
    assert parse_number("1.198", mark=spent.decide(".")) == 1198
    assert parse_number("3.361", mark=dwell.decide(",")) == Decimal("3.361")


def test_a_column_that_proves_nothing_follows_its_language():
    column = NumberColumn()
    for cell in ("1.234", "12", "--"):
        column.add(cell)
    assert column.proven is None
    assert column.decide(values.language_mark("de")) == ","
    assert column.decide(values.language_mark("ja")) == "."


# --- dates ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cell",
    [
        "2024-06-15",
        "2024/6/15",
        "2024.6.15",
        "2024/06/15",
        "20240615",
        "2024年6月15日",
        "2024年06月15日（土）",
        "２０２４年６月１５日",
        "令和6年6月15日",
        "R6.6.15",
        "r6/6/15",
        "6/15/2024",
        "15/6/2024",
        "15.6.2024",
        "15-06-2024",
        "June 15, 2024",
        "Jun 15, 2024",
        "15 June 2024",
        "15th June 2024",
        "Sat, Jun 15, 2024",
        "15 de junio de 2024",
        "15 de junho de 2024",
        "15. Juni 2024",
        "15 juin 2024",
        "15-Jun-2024",
        "45458",
        45458,
        45458.5,
        20240615,
        "2024-06-15T10:05:18+09:00",
        "2024/6/15 10:05",
        "2024年6月15日 10時05分",
        "2024年6月15日 午後3:00",
        "June 15, 2024, 12:00 AM",
        "15 de junio de 2024 0:00",
        datetime(2024, 6, 15, 10),
        date(2024, 6, 15),
    ],
)
def test_one_day_in_every_way_people_write_it(cell):
    assert parse_date(cell, today=TODAY) == date(2024, 6, 15)


def test_eras():
    assert parse_date("令和元年5月1日", today=TODAY) == date(2019, 5, 1)
    assert parse_date("平成31年4月30日", today=TODAY) == date(2019, 4, 30)
    assert parse_date("H31.4.30", today=TODAY) == date(2019, 4, 30)
    assert code_of(parse_date, "昭和64年1月7日", today=TODAY) == "date_out_of_range"


@pytest.mark.parametrize(
    ("cell", "code"),
    [
        ("1900/1/1", "date_out_of_range"),
        (datetime(1900, 1, 1), "date_out_of_range"),
        (0, "date_out_of_range"),
        (1, "date_out_of_range"),
        ("1999-12-31", "date_out_of_range"),
        ("2032-01-01", "date_out_of_range"),
        ("9999-12-31", "date_out_of_range"),
        ("2024-02-30", "not_a_date"),
        ("2024-13-01", "not_a_date"),
        ("13/32/2025", "not_a_date"),
        ("2025-13-45T25:61:00", "not_a_date"),
        ("1900/1/0", "not_a_date"),
        ("6/15", "not_a_date"),
        ("6月15日", "not_a_date"),
        ("tomorrow", "not_a_date"),
        ("2024-06-15 25:00", "not_a_date"),
        ("2024-06-15 garbage", "not_a_date"),
        ("=TODAY()", "formula"),
        (True, "not_a_date"),
        ("ã‚¤ãƒ™ãƒ³ãƒˆ", "mojibake"),
        ("3/4/2024", "ambiguous_date"),
        (time(10), "not_a_date"),
    ],
)
def test_what_is_no_day_is_refused_with_a_reason(cell, code):
    assert code_of(parse_date, cell, today=TODAY) == code


def test_the_same_day_and_month_is_not_ambiguous():
    assert parse_date("3/3/2024", today=TODAY) == date(2024, 3, 3)


def test_a_column_settles_day_and_month():
    american, european = DateColumn(), DateColumn()
    for cell in ("2/27/2026", "3/1/2026"):
        american.add(cell)
    for cell in ("27/2/2026", "1/3/2026"):
        european.add(cell)
    assert american.decide() == "mdy"
    assert european.decide() == "dmy"
    assert parse_date("3/1/2026", order=american.decide(), today=TODAY) == date(2026, 3, 1)
    assert parse_date("1/3/2026", order=european.decide(), today=TODAY) == date(2026, 3, 1)


def test_the_stated_period_settles_it_next_then_the_language():
    column = DateColumn()
    for cell in ("3/1/2026", "3/2/2026"):
        column.add(cell)
    assert column.decide("es", (date(2026, 2, 27), date(2026, 3, 22))) == "mdy"
    assert column.decide("es") == "dmy"
    assert column.decide("en", hint="mdy") == "mdy"
    assert column.decide("en") is None


def test_a_column_with_both_orders_is_refused():
    column = DateColumn()
    for cell in ("27/2/2026", "2/27/2026"):
        column.add(cell)
    assert code_of(column.decide) == "mixed_date_order"


def test_a_moment_is_the_day_it_was_in_the_zone_asked_for():
    late = "2024-06-15T23:30:00+00:00"
    assert parse_date(late, today=TODAY) == date(2024, 6, 15)
    assert parse_date(late, zone=TOKYO, today=TODAY) == date(2024, 6, 16)
    assert parse_timestamp(late, zone=TOKYO, today=TODAY) == datetime(2024, 6, 15, 23, 30, tzinfo=UTC)
    assert parse_timestamp("2024/6/15 8:00", zone=TOKYO, today=TODAY) == datetime(2024, 6, 14, 23, tzinfo=UTC)


def test_dates_in_lines_of_text():
    assert [d for d, _ in find_moments("July 8, 2026 - July 31, 2026")] == [date(2026, 7, 8), date(2026, 7, 31)]
    assert [d for d, _ in find_moments("2026年4月1日 - 2026年6月30日")] == [date(2026, 4, 1), date(2026, 6, 30)]
    assert find_moments("Fecha de creación: 9 de abril de 2026 8:54") == [(date(2026, 4, 9), time(8, 54))]
    assert find_moments("no date here 12345") == []


# --- text -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "イベント名",
        "製造業・営業部長",
        "Campaña São Zürich",
        "※終了※01_一般｜セミナー",
        "AI",
        "本当に？？",
        "①②㈱",
        "« modifié\u00a0» été",
    ],
)
def test_sound_text_is_no_mojibake(text):
    assert mojibake(text) is None


@pytest.mark.parametrize("text", ["イベント名", "製造業のカンファレンス", "開催日とカテゴリ"])
@pytest.mark.parametrize(
    ("wrote", "read"), [("utf-8", "cp1252"), ("utf-8", "latin-1"), ("utf-8", "cp932"), ("cp932", "cp1252")]
)
def test_text_in_the_wrong_encoding_is_noticed(text, wrote, read):
    broken = text.encode(wrote).decode(read, errors="replace")
    assert mojibake(broken) is not None
    assert code_of(parse_text, broken) == "mojibake"


def test_kanji_without_kana_in_the_wrong_encoding_are_noticed():
    assert "第1回 商談改善勉強会" in str(mojibake("第1回 商談改善勉強会".encode().decode("cp1252", errors="replace")))


def test_mojibake_that_can_be_restored_says_what_was_meant():
    with pytest.raises(CellError, match="probably means 'イベント'"):
        parse_text("イベント".encode().decode("latin-1"))


def test_letters_that_were_lost_are_noticed():
    assert code_of(parse_text, "???????") == "mojibake"
    assert parse_text("Really???") == "Really???"


# --- properties -------------------------------------------------------------------------------------------------------

CELLS = st.one_of(
    st.text(max_size=40),
    st.text(alphabet="0123456789.,-/年月日万億円%¥$ ()令和RHE+:TZapm<>", max_size=24),
    st.integers(),
    st.floats(),
    st.decimals(),
    st.booleans(),
    st.none(),
    st.datetimes(),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.text(max_size=10).map(lambda t: Formula("=" + t)),
)


@settings(max_examples=600, deadline=None)
@given(CELLS)
def test_a_parser_returns_or_says_why_whatever_it_is_given(cell):
    for parse in (
        parse_number, parse_money, parse_integer, parse_count, parse_percent, parse_date, parse_text,
        lambda c: parse_timestamp(c, zone=TOKYO),
        lambda c: parse_date(c, order="dmy", zone=UTC),
    ):  # fmt: skip
        try:
            parse(cell)
        except CellError as error:
            assert error.code  # noqa: PT017
            assert error.message  # noqa: PT017


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=120))
def test_looking_for_dates_and_mojibake_never_fails(text):
    find_moments(text)
    mojibake(text)


@given(st.decimals(min_value=-(10**12), max_value=10**12, places=2, allow_nan=False, allow_infinity=False))
def test_amounts_survive_every_way_of_writing_them(amount):
    english = f"{amount:,.2f}"
    german = english.translate(str.maketrans(",.", ".,"))
    french = english.replace(",", "\u202f").replace(".", ",")
    for text, mark in ((english, "."), (german, ","), (french, ","), (f"¥{english}", "."), (f"{german} €", ",")):
        found = parse_money(text, mark=mark, allow_negative=True)
        assert found is not None
        assert found.amount == amount, text


@given(st.dates(min_value=date(2000, 1, 1), max_value=date(2031, 12, 31)))
def test_days_survive_every_way_of_writing_them(day):
    texts = [
        day.isoformat(),
        f"{day:%Y/%m/%d}",
        f"{day:%Y%m%d}",
        f"{day.year}年{day.month}月{day.day}日",
        f"{day:%B} {day.day}, {day.year}",
        f"{day.day} {day:%b} {day.year}",
        f"{day.day}.{day.month}.{day.year}",
        (day - date(1899, 12, 30)).days,
        datetime.combine(day, time()),
        f"{day.isoformat()}T00:00:00+09:00",
    ]
    if day >= date(2020, 1, 1):
        texts.append(f"令和{day.year - 2018}年{day.month}月{day.day}日")
    for text in texts:
        assert parse_date(text, today=TODAY) == day, text
    assert parse_date(f"{day.month}/{day.day}/{day.year}", order="mdy", today=TODAY) == day
    assert parse_date(f"{day.day}/{day.month}/{day.year}", order="dmy", today=TODAY) == day


@given(
    st.datetimes(min_value=datetime(2000, 1, 3), max_value=datetime(2031, 12, 30)),
    st.integers(min_value=-12, max_value=14),
)
def test_moments_survive_their_offset(moment, hours):
    moment = moment.replace(microsecond=0)
    text = f"{moment.isoformat()}{'+' if hours >= 0 else '-'}{abs(hours):02d}:00"
    found = parse_timestamp(text, zone=TOKYO, today=TODAY)
    assert found is not None
    assert found == (moment - timedelta(hours=hours)).replace(tzinfo=UTC)


@given(
    st.lists(st.dates(min_value=date(2024, 1, 1), max_value=date(2026, 12, 31)), min_size=1),
    st.sampled_from(["dmy", "mdy"]),
)
def test_a_settled_column_reads_every_date_right(days, order):
    write = (lambda d: f"{d.day}/{d.month}/{d.year}") if order == "dmy" else (lambda d: f"{d.month}/{d.day}/{d.year}")
    column = DateColumn()
    for day in days:
        column.add(write(day))
    decided = column.decide()
    assert decided in (order, None)
    if decided is None:
        assert all(d.day <= 12 for d in days)
    else:
        assert [parse_date(write(d), order=decided, today=TODAY) for d in days] == days
