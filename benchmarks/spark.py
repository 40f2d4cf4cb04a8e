"""The Spark path, really run: PySpark in local mode against PostgreSQL and one process, on the same data.

    python -m benchmarks.spark [--json] [--events 400] [--rows 60000] [--rounds 60] [--workers 2] [--seed 1]

needs the extra ``spark`` (``pip install 'turnout[spark]'``) and a Java runtime, 17 or newer (Debian:
``apt-get install openjdk-17-jre-headless``); without them it says so and ends with 2.

A simulated year (:mod:`benchmarks.retrain_world`) is loaded, its features computed in PostgreSQL, and the feature
tables exported as Parquet. Then the same two things are done twice:

1. **features**: what was known when each past event was planned, by Feast's PostgreSQL offline store as training asks
   for it, and by Feast's Spark offline store on the Parquet files. Equal means: the same rows, the same unknowns, and
   no value further apart than :data:`TOLERANCE`, relative.
2. **training**: the response model's trees on the design matrix of these rows, the log of the fitted mean as base
   margin, by :func:`xgboost.train` and by :class:`xgboost.spark.SparkXGBRegressor` on ``--workers`` workers. Rows are
   not subsampled, since workers draw for themselves; histograms are merged from the workers' sketches, so predictions
   are close, not equal: :data:`CLOSE` is the allowed median distance, relative.

The times say what the path costs on one machine. They are no argument for it: see docs/scaling.md for where it pays.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import structlog
from numpy.typing import NDArray
from sqlalchemy import text

from benchmarks.retrain_stages import State, demand, features, fill, publish
from benchmarks.retrain_world import AS_OF
from feature_repo import names, schema
from turnout.runtime.servers import services
from turnout.settings import Settings
from turnout.warehouse.engine import create_engine
from turnout.warehouse.migrate import upgrade

#: Largest relative distance of a feature: sums in another order.
TOLERANCE = 1e-9
#: Largest median relative distance of predictions of one machine and several workers.
CLOSE = 0.01
_OLDEST_JAVA = 17

Floats = NDArray[np.float64]


class MissingError(RuntimeError):
    """Something that is not part of the installation; the message says what to install."""


@dataclass(frozen=True, slots=True)
class Joined:
    """The point-in-time join.

    Attributes:
        largest_difference: relative, over all values known to both.
        unequal: values further apart than :data:`TOLERANCE`, or known to one alone.
    """

    rows: int
    features: int
    postgres_seconds: float
    spark_seconds: float
    largest_difference: float
    unequal: int


@dataclass(frozen=True, slots=True)
class Trees:
    """Training.

    Attributes:
        median_difference, largest_difference: of the predictions, relative.
        deviance: mean Poisson deviance on the rows trained on, of one machine; ``spark_deviance`` of Spark's model;
            ``plain_deviance`` of the base margin alone.
    """

    rows: int
    columns: int
    rounds: int
    workers: int
    one_seconds: float
    spark_seconds: float
    median_difference: float
    largest_difference: float
    plain_deviance: float
    deviance: float
    spark_deviance: float


def require() -> str:
    """The Java version in use.

    Raises:
        MissingError: PySpark or a Java runtime is not there, or too old.
    """
    if find_spec("pyspark") is None:
        raise MissingError("PySpark is not installed: pip install 'turnout[spark]'")
    home = os.environ.get("JAVA_HOME")
    program = shutil.which("java", path=str(Path(home) / "bin") if home else None)
    advice = f"install one of {_OLDEST_JAVA} or newer (Debian: apt-get install openjdk-17-jre-headless)"
    if program is None:
        raise MissingError(f"there is no Java runtime: {advice}")
    told = subprocess.run([program, "-version"], capture_output=True, text=True, check=False).stderr
    version = told.split('"')[1] if told.count('"') >= 2 else told.strip()[:80]
    if not version.split(".")[0].isdigit() or int(version.split(".")[0]) < _OLDEST_JAVA:
        raise MissingError(f"the Java runtime is {version or 'unknown'}: {advice}")
    return version


def spark_conf(workers: int, scratch: Path) -> dict[str, str]:
    """A small local Spark that leaves nothing behind."""
    return {
        "spark.master": f"local[{workers}]",
        "spark.ui.enabled": "false",
        "spark.driver.memory": "1g",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.sql.shuffle.partitions": str(2 * workers),
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.sql.warehouse.dir": str(scratch / "warehouse"),
        "spark.local.dir": str(scratch / "local"),
    }


@contextmanager
def session(conf: dict[str, str]) -> Iterator[Any]:
    """The Spark session; Feast finds it as the active one."""
    from pyspark.sql import SparkSession

    # the workers are this Python
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    builder = SparkSession.builder.appName("turnout")
    for name, value in conf.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    try:
        yield spark
    finally:
        spark.stop()


# --- features ---------------------------------------------------------------------------------------------------------


def export(settings: Settings, folder: Path) -> dict[str, Path]:
    """The feature tables as one Parquet file each, with what tells versions apart; returns the files by view."""
    found = {}
    engine = create_engine(settings, pool_size=1)
    try:
        for view, keys in names.KEYS_BY_VIEW.items():
            columns = [*keys, names.EVENT_TIMESTAMP, names.CREATED_TIMESTAMP, *names.FEATURES_BY_VIEW[view]]
            query = text(f"SELECT {', '.join(columns)} FROM {schema.SCHEMA}.{view}")
            path = folder / f"{view}.parquet"
            kinds = pa.schema([
                *((key, pa.string()) for key in keys),
                (names.EVENT_TIMESTAMP, pa.timestamp("us", "UTC")),
                (names.CREATED_TIMESTAMP, pa.timestamp("us", "UTC")),
                *((feature, pa.float64()) for feature in names.FEATURES_BY_VIEW[view]),
            ])  # fmt: skip
            # a server-side cursor: no table is ever whole in memory
            with engine.connect().execution_options(stream_results=True) as connection:
                rows = connection.execute(query)
                with pq.ParquetWriter(path, kinds) as writer:
                    while part := rows.fetchmany(50_000):
                        by_column = zip(*part, strict=True)
                        writer.write_table(
                            pa.table([pa.array(c, f.type) for c, f in zip(by_column, kinds, strict=True)], schema=kinds)
                        )
            found[view] = path
    finally:
        engine.dispose()
    return found


def spark_store(files: dict[str, Path], scratch: Path, conf: dict[str, str]) -> Any:
    """A Feast store like Turnout's, with the Parquet files as its sources and Spark as its offline store."""
    from feast import FeatureService, FeatureStore, FeatureView, RepoConfig
    from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource

    from feature_repo import definitions

    views = {
        view: FeatureView(
            name=view,
            entities=[definitions.ENTITIES[key] for key in names.KEYS_BY_VIEW[view]],
            ttl=names.MAXIMUM_AGE,
            schema=ours.schema,
            source=SparkSource(
                name=f"{view}_parquet",
                path=str(files[view]),
                file_format="parquet",
                timestamp_field=names.EVENT_TIMESTAMP,
                created_timestamp_column=names.CREATED_TIMESTAMP,
            ),
        )
        for view, ours in definitions.VIEWS.items()
    }
    services = [
        FeatureService(name=service, features=[views[view][list(features)] for view, features in parts.items()])
        for service, parts in names.SERVICES.items()
    ]
    store = FeatureStore(
        config=RepoConfig(
            project=names.PROJECT,
            provider="local",
            entity_key_serialization_version=3,
            registry=str(scratch / "registry.db"),
            offline_store={"type": "spark", "spark_conf": conf},
            online_store=None,
        )
    )
    store.apply([*definitions.ENTITIES.values(), *views.values(), *services])
    return store


def keys_of(rows: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """The entity frame of training rows: which tactic in which segment, on the morning the event was planned."""
    return pd.DataFrame(
        {
            names.ORGANISATION: settings.organisation,
            names.TACTIC: rows["tactic_id"],
            names.SEGMENT: rows["segment_id"],
            names.EVENT_TIMESTAMP: pd.to_datetime(
                [names.snapshot_timestamp(day.date(), settings.zone) for day in rows["as_of"]], utc=True
            ),
        }
    )


def compare_features(settings: Settings, store: Any, keys: pd.DataFrame) -> tuple[Joined, pd.DataFrame]:
    """Ask both stores, and compare; also the rows that Spark answered, in the order of ``keys``."""
    from feature_repo import store as ours

    service = names.RESPONSE_SERVICE
    started = time.perf_counter()
    expected = ours.historical(settings, keys, service)
    postgres_seconds = time.perf_counter() - started
    distinct = keys.drop_duplicates(ignore_index=True)
    started = time.perf_counter()
    answer = store.get_historical_features(
        entity_df=distinct, features=store.get_feature_service(service), filter_by_created_timestamp=True
    ).to_df()
    spark_seconds = time.perf_counter() - started
    answer[names.EVENT_TIMESTAMP] = pd.to_datetime(answer[names.EVENT_TIMESTAMP], utc=True)
    joined = keys.merge(answer, on=list(keys.columns), how="left", validate="many_to_one", indicator="_found")
    if len(answer) != len(distinct) or not (joined["_found"] == "both").all():
        raise RuntimeError(f"Spark answered {len(answer)} rows for {len(distinct)} keys")
    columns = list(names.service_features(service))
    left, right = (frame[columns].to_numpy(dtype=np.float64) for frame in (expected, joined))
    known = np.isfinite(left) & np.isfinite(right)
    apart = np.abs(left - right) / np.maximum(np.maximum(np.abs(left), np.abs(right)), 1e-12)
    return Joined(
        rows=len(keys),
        features=len(columns),
        postgres_seconds=postgres_seconds,
        spark_seconds=spark_seconds,
        largest_difference=float(apart[known].max(initial=0.0)),
        unequal=int((np.isfinite(left) != np.isfinite(right)).sum() + (apart[known] > TOLERANCE).sum()),
    ), joined[columns]


# --- training ---------------------------------------------------------------------------------------------------------


def compare_trees(spark: Any, dataset: Any, *, rounds: int, workers: int, seed: int) -> Trees:
    """The response model's trees, on one machine and on Spark's workers."""
    import xgboost
    from xgboost.spark import SparkXGBRegressor

    from training.estimator import TREE_PARAMETERS
    from training.pooling import fit_pooling

    pooled = fit_pooling(dataset, stretched=False)
    phi = pooled.parameters.overdispersion
    means = pooled.means
    matrix = np.asarray(dataset.matrix(), dtype=np.float32)
    labels = dataset.rows["y"].to_numpy(dtype=np.float64)
    weights = dataset.rows["weight"].to_numpy(dtype=np.float64) / (1 + phi * means)
    margin = np.log(means)
    # workers draw rows for themselves: without drawing, both see the same ones
    parameters = {**TREE_PARAMETERS, "subsample": 1.0, "seed": seed}

    started = time.perf_counter()
    inputs = xgboost.DMatrix(matrix, label=labels, weight=weights, base_margin=margin, nthread=1)
    booster = xgboost.train({**parameters, "nthread": workers}, inputs, num_boost_round=rounds)
    one_seconds = time.perf_counter() - started
    alone = np.asarray(booster.predict(inputs), dtype=np.float64)

    columns = [f"f{position}" for position in range(matrix.shape[1])]
    frame = pd.DataFrame(matrix.astype(np.float64), columns=columns)
    frame = frame.assign(label=labels, weight=weights, margin=margin, place=np.arange(len(frame)))
    started = time.perf_counter()
    table = spark.createDataFrame(frame).repartition(workers).cache()
    renamed = {"eta": "learning_rate", "lambda": "reg_lambda", "seed": "random_state"}
    estimator = SparkXGBRegressor(
        **{renamed.get(name, name): value for name, value in parameters.items() if name != "verbosity"},
        features_col=columns, label_col="label", weight_col="weight", base_margin_col="margin", missing=float("nan"),
        n_estimators=rounds, num_workers=workers,
    )  # fmt: skip
    model = estimator.fit(table)
    spark_seconds = time.perf_counter() - started
    told = model.transform(table).select("place", "prediction").toPandas().set_index("place")["prediction"]
    together = told.reindex(np.arange(len(frame))).to_numpy(dtype=np.float64)
    apart = np.abs(together - alone) / np.maximum(alone, 1e-9)
    return Trees(
        rows=len(frame),
        columns=len(columns),
        rounds=rounds,
        workers=workers,
        one_seconds=one_seconds,
        spark_seconds=spark_seconds,
        median_difference=float(np.median(apart)),
        largest_difference=float(apart.max()),
        plain_deviance=_deviance(labels, means, weights),
        deviance=_deviance(labels, alone, weights),
        spark_deviance=_deviance(labels, together, weights),
    )


def _deviance(y: Floats, mean: Floats, weight: Floats) -> float:
    unit = mean - y + np.where(y > 0, y * np.log(np.maximum(y, 1e-9) / mean), 0.0)
    return float(2 * np.average(unit, weights=weight))


# --- all --------------------------------------------------------------------------------------------------------------


def measure(*, events: int, rows: int, rounds: int, workers: int, seed: int, folder: Path) -> dict[str, Any]:
    """Both comparisons, in a home of their own below ``folder``, which is removed.

    Raises:
        MissingError: see :func:`require`.
    """
    java = require()
    import pyspark

    from training.dataset import build

    with tempfile.TemporaryDirectory(prefix="turnout-spark-", dir=folder) as name:
        home = Path(name)
        home.chmod(0o711)  # the database server may run under an account of its own
        with services(Settings(home=home / "home", identity_salt="benchmark"), migrate=False) as settings:
            upgrade(settings)
            state: State = {
                "as_of": AS_OF.isoformat(),
                "world": {"events": events, "rows": rows, "seed": seed},
            }
            for stage in (fill, features, publish, demand):
                stage(settings, state, lambda message: None)
            dataset = build(settings, AS_OF)
            files = export(settings, home)
            conf = spark_conf(workers, home)
            with session(conf) as spark:
                store = spark_store(files, home, conf)
                joined, _ = compare_features(settings, store, keys_of(dataset.rows, settings))
                trees = compare_trees(spark, dataset, rounds=rounds, workers=workers, seed=seed)
    return {
        "simulated": True,
        "pyspark": pyspark.__version__,
        "java": java,
        "features": asdict(joined),
        "training": asdict(trees),
        "equal": joined.unequal == 0,
        "close": trees.median_difference <= CLOSE,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.spark", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=400)
    parser.add_argument("--rows", type=int, default=60_000, help="ad and e-mail rows")
    parser.add_argument("--rounds", type=int, default=60, help="trees")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where to work")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    warnings.filterwarnings("ignore")
    try:
        with redirect_stdout(sys.stderr):  # Feast prints
            told = measure(
                events=options.events, rows=options.rows, rounds=options.rounds, workers=options.workers,
                seed=options.seed, folder=options.folder,
            )  # fmt: skip
    except MissingError as error:
        print(f"the Spark path was not measured: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(told, indent=1))
    else:
        print_report(told)
    return 0 if told["equal"] and told["close"] else 1


def print_report(told: dict[str, Any]) -> None:
    joined, trees = told["features"], told["training"]
    print(f"PySpark {told['pyspark']}, Java {told['java']}, simulated history")
    print(
        f"features   {joined['rows']:,} rows × {joined['features']}: PostgreSQL {joined['postgres_seconds']:.1f} s, "
        f"Spark {joined['spark_seconds']:.1f} s; {joined['unequal']} values differ "
        f"(largest distance {joined['largest_difference']:.1e})"
    )
    print(
        f"training   {trees['rows']:,} rows × {trees['columns']}, {trees['rounds']} trees: one process "
        f"{trees['one_seconds']:.1f} s, Spark with {trees['workers']} workers {trees['spark_seconds']:.1f} s; "
        f"predictions {trees['median_difference']:.2%} apart in the middle, {trees['largest_difference']:.1%} at most; "
        f"deviance {trees['deviance']:.4f} and {trees['spark_deviance']:.4f}, "
        f"of the base margin {trees['plain_deviance']:.4f}"
    )


if __name__ == "__main__":
    sys.exit(main())
