"""The compose file: one image, pinned versions, health of every part, and no password anywhere."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
SERVICES = yaml.safe_load(TEXT)["services"]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")

ONE_SHOT = {"migrate"}


def test_every_part_of_the_stack_is_there():
    assert set(SERVICES) == {
        "postgres", "redis", "migrate", "airflow-api-server", "airflow-scheduler", "airflow-dag-processor",
        "airflow-triggerer", "mlflow", "service",
    }  # fmt: skip


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned_and_ours_come_from_one_dockerfile(name):
    service = SERVICES[name]
    assert re.search(r":\d+\.\d+", service["image"])
    if "build" in service:
        assert service["build"]["dockerfile"] == "deploy/Dockerfile"


@pytest.mark.parametrize("name", [n for n in SERVICES if n not in ONE_SHOT])
def test_long_running_parts_have_a_health_check_and_come_back(name):
    assert SERVICES[name]["healthcheck"]["test"]
    assert SERVICES[name]["restart"] == "unless-stopped"


def test_what_runs_once_is_not_restarted():
    assert all(SERVICES[name]["restart"] == "no" for name in ONE_SHOT)


@pytest.mark.parametrize("name", SERVICES)
def test_parts_wait_for_what_they_need(name):
    for needed, how in (SERVICES[name].get("depends_on") or {}).items():
        expected = "service_completed_successfully" if needed in ONE_SHOT else "service_healthy"
        assert needed in SERVICES
        assert how["condition"] == expected


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_open_to_this_machine_only(name):
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


def test_passwords_are_demanded_and_never_given():
    given = re.findall(r"\$\{(\w*PASSWORD)([^}]*)\}", TEXT)
    assert {name for name, _ in given} == {"POSTGRES_PASSWORD", "REDIS_PASSWORD", "SERVICE_PASSWORD"}
    assert all(rest.startswith(":?") for _, rest in given), "a password without `:?` would start with an empty one"
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert re.findall(r"^\w+_PASSWORD=(.*)$", example, re.MULTILINE) == ["", "", ""]
    for url in re.findall(r"\w+://[^\s\"]+", TEXT):
        assert "@" not in url or "PASSWORD:?" in url


def test_the_service_lets_in_nobody_unknown():
    assert SERVICES["service"]["environment"]["TURNOUT_AUTH"] == "${TURNOUT_AUTH:-keys}"
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert re.findall(r"^TURNOUT_AUTH=(.*)$", example, re.MULTILINE) == ["keys"]


def test_the_image_runs_as_an_ordinary_user_from_the_locked_environment():
    lines = DOCKERFILE.splitlines()
    assert re.fullmatch(r"FROM python:3\.11\.\d+-slim-\w+", next(line for line in lines if line.startswith("FROM")))
    assert "--require-hashes" in DOCKERFILE
    assert [line for line in lines if line.startswith("USER")] == ["USER turnout"]


def test_what_the_image_copies_exists_and_is_all_of_our_packages():
    copied = {word for line in DOCKERFILE.splitlines() if line.startswith("COPY") for word in line.split()[1:-1]}
    assert all((ROOT / name).exists() for name in copied)
    packages = {p.parent.name for p in ROOT.glob("*/__init__.py")} - {"tests"}
    assert packages | {"dags"} <= copied


def test_commands_of_our_image_exist():
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for service in SERVICES.values():
        if "build" in service and service["command"][0] == "turnout":
            assert service["command"][1] in {"migrate", "airflow"}
    assert 'turnout = "turnout.cli:main"' in pyproject


def test_a_compose_client_accepts_the_file_where_there_is_one():
    clients = [["docker-compose"], ["docker", "compose"]]
    found = next((c for c in clients if shutil.which(c[0]) and _runs([*c, "version"])), None)
    if found is None:
        return  # the checks above stand in for it
    given = {**os.environ, "POSTGRES_PASSWORD": "p", "REDIS_PASSWORD": "r", "SERVICE_PASSWORD": "s"}
    command = [*found, "--file", str(ROOT / "docker-compose.yml"), "config", "--quiet"]
    done = subprocess.run(command, env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    without = {k: v for k, v in given.items() if k != "REDIS_PASSWORD"}
    refused = subprocess.run(command, env=without, cwd=ROOT / "deploy", capture_output=True, text=True, check=False)
    assert refused.returncode != 0 or (ROOT / ".env").exists()


def _runs(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
