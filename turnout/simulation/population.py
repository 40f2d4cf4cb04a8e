"""Who lives in the simulated world: invented organisers, the themes of their events, and the people they address.

Every name here is made up. Category, job title, industry and company size ids are those of :mod:`turnout.taxonomy`.
"""

# ruff: noqa: E501 - the tables are read across

from __future__ import annotations

from dataclasses import dataclass

#: Folders of simulated organisers start with this, so that every row they hand in carries it as its account.
FOLDER_PREFIX = "sim-"

#: What the spreadsheets write into 備考 and データ区分, and campaign names into their last part.
LABEL = "シミュレーション"
LABEL_SHORT = "SIM"

_ORGANISERS = (
    ("aoba", "青葉ビジネスフォーラム"), ("minato", "みなとテック企画"), ("sakura", "さくらイベント工房"),
    ("kaede", "かえで未来会議"), ("tsubame", "つばめカンファレンス"), ("hinata", "ひなた産業サロン"),
    ("nagisa", "なぎさ勉強会連合"), ("subaru", "すばる企画室"),
)  # fmt: skip


def organiser_name(number: int) -> tuple[str, str]:
    """Folder and Japanese name of the organiser of this number, from 0."""
    slug, name = _ORGANISERS[number % len(_ORGANISERS)]
    circle = number // len(_ORGANISERS)
    return (
        FOLDER_PREFIX + (slug if circle == 0 else f"{slug}-{circle + 1:02d}"),
        f"{name}（架空）" if circle == 0 else f"{name} 第{circle + 1}部（架空）",
    )


#: The middle of what an organiser has; fields of :class:`turnout.brief.Assets`.
REFERENCE_ASSETS: dict[str, float] = {
    "email_list": 6000, "social_followers": 2500, "community_members": 700, "partners": 3, "speakers": 3,
    "employees": 120, "sales_contacts": 160, "site_visitors": 6000,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Field:
    """One category of events.

    Attributes:
        themes: what its events are about, in Japanese.
        job_titles, industries: whom they address, likeliest first.
        technical: engineers are its core, so that developer platforms work.
        weight: how common such events are.
    """

    category: str
    themes: tuple[str, ...]
    job_titles: tuple[str, ...]
    industries: tuple[str, ...]
    technical: bool = False
    weight: float = 1.0


# fmt: off
FIELDS: tuple[Field, ...] = (
    Field("ai_data", ("生成AI活用", "AIエージェント開発", "データ分析基盤", "機械学習運用"), ("data_scientist", "data_analyst", "software_engineer", "dx_promotion", "technology_executive"), ("software", "it_services", "internet", "manufacturing", "finance"), technical=True, weight=1.6),
    Field("cloud", ("クラウド移行", "コンテナ基盤運用", "可観測性", "クラウドコスト最適化"), ("infrastructure_engineer", "software_engineer", "architect", "it_systems"), ("it_services", "software", "telecom", "internet"), technical=True, weight=1.1),
    Field("security", ("ゼロトラスト", "インシデント対応", "クラウドセキュリティ", "脆弱性管理"), ("security_specialist", "it_systems", "infrastructure_engineer", "technology_executive"), ("it_services", "finance", "banking", "government", "telecom"), technical=True, weight=0.9),
    Field("development", ("フロントエンド開発", "開発生産性", "テスト自動化", "アーキテクチャ設計"), ("software_engineer", "architect", "engineering_manager", "quality_assurance"), ("software", "internet", "it_services", "entertainment"), technical=True, weight=1.4),
    Field("dx", ("業務自動化", "ペーパーレス推進", "現場DX", "基幹システム刷新"), ("dx_promotion", "it_systems", "corporate_planning", "project_manager", "executive"), ("manufacturing", "construction", "wholesale_retail", "logistics", "government"), weight=1.4),
    Field("marketing", ("BtoBマーケティング", "コンテンツマーケティング", "広告運用", "顧客データ活用"), ("marketing", "public_relations", "data_analyst", "executive"), ("advertising", "software", "ecommerce", "consumer_goods", "media"), weight=1.2),
    Field("sales", ("インサイドセールス", "営業DX", "カスタマーサクセス", "商談改善"), ("sales", "inside_sales", "customer_success", "executive"), ("software", "staffing", "trading", "real_estate"), weight=0.9),
    Field("hr", ("エンジニア採用", "人的資本経営", "オンボーディング", "評価制度"), ("human_resources", "executive", "engineering_manager"), ("staffing", "consulting", "software", "manufacturing"), weight=0.8),
    Field("backoffice", ("経理DX", "電子帳簿対応", "契約管理", "予算管理"), ("finance", "legal", "general_affairs", "corporate_planning"), ("finance", "consulting", "wholesale_retail", "other"), weight=0.7),
    Field("manufacturing", ("スマート工場", "予知保全", "品質管理", "サプライチェーン"), ("production", "research_and_development", "procurement", "dx_promotion"), ("manufacturing", "machinery", "automotive", "electronics", "chemicals"), weight=0.9),
    Field("startup", ("資金調達", "新規事業開発", "大企業連携", "海外展開"), ("executive", "business_development", "corporate_planning", "consultant"), ("internet", "securities", "consulting", "software"), weight=0.6),
    Field("design_product", ("プロダクトマネジメント", "UXリサーチ", "デザインシステム", "グロース施策"), ("product_manager", "designer", "software_engineer", "marketing"), ("internet", "software", "entertainment", "ecommerce"), technical=True, weight=0.7),
)

#: Job titles that react alike.
FAMILIES: dict[str, tuple[str, ...]] = {
    "engineering": ("software_engineer", "infrastructure_engineer", "architect", "quality_assurance", "engineering_manager", "security_specialist"),
    "data": ("data_scientist", "data_analyst", "research_and_development"),
    "leadership": ("executive", "technology_executive", "corporate_planning", "business_development"),
    "it": ("it_systems", "dx_promotion", "project_manager", "consultant"),
    "product": ("product_manager", "designer"),
    "marketing": ("marketing", "public_relations"),
    "sales": ("sales", "inside_sales", "customer_success"),
    "administration": ("human_resources", "finance", "legal", "general_affairs", "other"),
    "operations": ("production", "procurement"),
}
FAMILY_OF: dict[str, str] = {title: family for family, titles in FAMILIES.items() for title in titles}

#: Company sizes that react alike.
SIZE_GROUPS: dict[str, tuple[str, ...]] = {
    "small": ("1-9", "10-49", "50-99"),
    "middle": ("100-299", "300-499", "500-999"),
    "large": ("1000-4999", "5000+"),
}

DIGITAL_INDUSTRIES = frozenset({"software", "it_services", "internet", "telecom", "entertainment", "ecommerce", "advertising", "media"})

#: What an event of this format is called.
KINDS: dict[str, tuple[str, ...]] = {
    "online": ("ウェビナー", "オンラインセミナー"),
    "offline": ("セミナー", "カンファレンス", "勉強会"),
    "hybrid": ("フォーラム", "サミット"),
}
# fmt: on
