"""Every spelling finds its id, nothing else is guessed, and no text makes a vocabulary raise but ValueError."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout import taxonomy
from turnout.errors import ConfigurationError
from turnout.taxonomy import Vocabulary

VOCABULARIES = {
    "categories": taxonomy.categories,
    "formats": taxonomy.formats,
    "industries": taxonomy.industries,
    "job_titles": taxonomy.job_titles,
    "company_sizes": taxonomy.company_sizes,
}
any_vocabulary = pytest.mark.parametrize("vocabulary", VOCABULARIES.values(), ids=VOCABULARIES.keys())


def _full_width(text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


def test_the_vocabularies_have_the_agreed_sizes():
    assert {name: len(v) for name, v in VOCABULARIES.items()} == {
        "categories": 13,
        "formats": 3,
        "industries": 34,
        "job_titles": 31,
        "company_sizes": 8,
    }


@any_vocabulary
def test_every_spelling_finds_its_id_in_any_width_and_case(vocabulary: Vocabulary):
    for identifier in vocabulary.ids:
        for spelling in vocabulary.spellings(identifier):
            for written in (spelling, spelling.upper(), spelling.lower(), _full_width(spelling), f" 　{spelling}\n"):
                assert vocabulary.parse(written) == identifier, written


@any_vocabulary
def test_a_known_word_is_never_split_even_if_it_holds_a_separator(vocabulary: Vocabulary):
    for identifier in vocabulary.ids:
        for spelling in vocabulary.spellings(identifier):
            assert vocabulary.parse_many(spelling) == ([identifier], []), spelling


@any_vocabulary
def test_labels_exist_in_both_languages_and_are_unique(vocabulary: Vocabulary):
    for language in ("ja", "en"):
        labels = [vocabulary.label(i, language) for i in vocabulary.ids]
        assert len(set(labels)) == len(labels)


@pytest.mark.parametrize(
    ("cell", "ids", "unknown"),
    [
        ("製造・メーカー", ["manufacturing"], []),
        ("卸売・小売", ["wholesale_retail"], []),
        ("製造・メーカー・金融", ["manufacturing", "finance"], []),
        ("金融・卸売・小売・銀行", ["finance", "wholesale_retail", "banking"], []),
        ("IT・通信、製造業，ＥＣ／小売", ["it_services", "manufacturing", "ecommerce", "wholesale_retail"], []),
        ("銀行;保険；証券|不動産\n建設", ["banking", "insurance", "securities", "real_estate", "construction"], []),
        ("ﾒｰｶｰ･小売", ["manufacturing", "wholesale_retail"], []),
        ("製造業、宇宙開発、小売", ["manufacturing", "wholesale_retail"], ["宇宙開発"]),
        ("製造業, 製造業", ["manufacturing"], []),
        ("金融業界", ["finance"], []),
        ("製造業（自動車）", ["manufacturing"], []),
        ("その他（農業）", ["agriculture"], []),
        ("・、,", [], []),
    ],
)
def test_industries_of_a_cell(cell: str, ids: list[str], unknown: list[str]):
    assert taxonomy.industries.parse_many(cell) == (ids, unknown)


@pytest.mark.parametrize(
    "cell", ["", "  ", "-", "ー", "―", "全業種", "すべて", "指定なし", "ＡＬＬ", "N/A", "（不問）", None]
)
@any_vocabulary
def test_cells_that_address_everybody_name_nobody(vocabulary: Vocabulary, cell: str | None):
    assert vocabulary.parse_many(cell) == ([], [])


@pytest.mark.parametrize(
    ("cell", "bands"),
    [
        ("1〜9名", ["1-9"]),
        ("１，０００～４，９９９人", ["1000-4999"]),
        ("1,000名以上、100〜299名", ["1000-4999", "5000+", "100-299"]),
        ("5000人以上", ["5000+"]),
        ("5,000+", ["5000+"]),
        ("1万人以上", ["5000+"]),
        ("300名未満", ["1-9", "10-49", "50-99", "100-299"]),
        ("300名以下", ["1-9", "10-49", "50-99", "100-299", "300-499"]),
        ("under 50", ["1-9", "10-49"]),
        ("100 - 999 employees", ["100-299", "300-499", "500-999"]),
        ("従業員数：1000名〜", ["1000-4999", "5000+"]),
        ("more than 5000", ["5000+"]),
        ("50名", ["50-99"]),
        ("大企業・中堅企業", ["1000-4999", "5000+", "300-499", "500-999"]),
        ("enterprise", ["1000-4999", "5000+"]),
        ("0名", []),
        ("9-1", []),
    ],
)
def test_company_sizes_are_read_as_numbers(cell: str, bands: list[str]):
    assert taxonomy.company_sizes.parse_many(cell)[0] == bands


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("会場＋Zoom", "hybrid"),
        ("オンライン（Zoomウェビナー）", "online"),
        ("Zoomによるオンライン配信", "online"),
        ("東京会場での開催", "offline"),
        ("ハイブリッド（会場＋オンライン）", "hybrid"),
        ("Live webinar", "online"),
        ("オンライン以外", None),
        ("not online", None),
        ("cobweb", None),
        ("郵送", None),
    ],
)
def test_formats_in_free_text(text: str, expected: str | None):
    assert taxonomy.formats.find(text) == expected


def test_an_unknown_word_is_refused_with_what_is_close_and_what_is_allowed():
    with pytest.raises(
        ValueError,
        match=r"unknown category 'マーケティンク'; did you mean マーケティング \(Marketing\)\? allowed: ai_data",
    ):
        taxonomy.categories.parse("マーケティンク")
    with pytest.raises(ValueError, match="category is empty or says nothing"):
        taxonomy.categories.parse(" - ")
    with pytest.raises(ValueError, match="must be text, not int"):
        taxonomy.categories.parse(3)
    with pytest.raises(ValueError, match="covers more than one company size; name them: 1000-4999, 5000\\+"):
        taxonomy.company_sizes.parse("大企業")


def test_a_message_never_repeats_a_whole_essay():
    with pytest.raises(ValueError, match="unknown industry") as caught:
        taxonomy.industries.parse("宇" * 100_000)
    assert len(str(caught.value)) < 1_000


def test_a_spelling_claimed_twice_is_a_configuration_error():
    with pytest.raises(ConfigurationError, match="belongs to both 'a' and 'b'"):
        Vocabulary("thing", {"a": {"ja": "あ", "en": "A"}, "b": {"ja": "い", "en": "B", "spellings": ["Ａ"]}})
    with pytest.raises(ConfigurationError, match="group"):
        Vocabulary("thing", {"a": {"ja": "あ", "en": "A"}}, groups={"many": ["c"]})


@given(text=st.text(max_size=200))
def test_any_text_is_an_id_or_a_value_error(text: str):
    for vocabulary in VOCABULARIES.values():
        found = vocabulary.find(text)
        if found is None:
            with pytest.raises(ValueError, match=vocabulary.name):
                vocabulary.parse(text)
        else:
            assert vocabulary.parse(text) == found
            assert found in vocabulary


_SPELLINGS = [s for i in taxonomy.industries.ids for s in taxonomy.industries.spellings(i)]
_WORDS = st.sampled_from([*_SPELLINGS, "宇宙", "???", "全業種", "-", "100-999"]) | st.text(max_size=12)


@given(words=st.lists(_WORDS, max_size=12), separator=st.sampled_from([*"・、,，/；;\n", " ・ "]))
def test_ids_are_known_and_unknown_pieces_come_back_as_written(words: list[str], separator: str):
    cell = separator.join(words)
    ids, unknown = taxonomy.industries.parse_many(cell)
    assert set(ids) <= set(taxonomy.industries.ids)
    assert len(set(ids)) == len(ids)
    for piece in unknown:
        assert taxonomy.industries.find(piece) is None
        assert piece in unicodedata.normalize("NFKC", cell)


@given(cell=st.text(max_size=120))
def test_every_vocabulary_reads_any_cell_without_raising(cell: str):
    for vocabulary in VOCABULARIES.values():
        ids, unknown = vocabulary.parse_many(cell)
        assert all(i in vocabulary for i in ids)
        if not ids and not unknown:
            # Nothing found and nothing refused: the cell then said nothing, piece by piece.
            pieces = [p for p in taxonomy._SEPARATORS.split(unicodedata.normalize("NFKC", cell)) if p.strip()]
            assert all(vocabulary.is_everybody(p) for p in pieces) or vocabulary.is_everybody(cell)
