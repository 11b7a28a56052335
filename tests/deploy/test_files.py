"""The files of deploy/ fit each other and the repository; what takes servers is run in tests/stack."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster._config import process_config, resolve_to_config_type

from lakefeed.config import Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if service.get("image") == "lakefeed"]
BIN = Path(sys.executable).parent


def variables() -> dict[str, str]:
    lines = (DEPLOY / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def environment_of(text: str) -> set[str]:
    return set(re.findall(r"env: ([A-Z_]+)", text))


def test_every_variable_that_is_read_is_in_the_example() -> None:
    wanted = set(re.findall(r"\$\{([A-Z_]+)", (DEPLOY / "compose.yaml").read_text()))
    for file in ("dagster.yaml", "workspace.yaml"):
        wanted |= environment_of((DEPLOY / file).read_text())
    assert wanted <= set(variables())


def test_the_passwords_of_the_example_are_the_same_everywhere() -> None:
    given = variables()
    for url in (given["DAGSTER_POSTGRES_URL"], given["LAKEFEED__CATALOG__URI"]):
        assert url.startswith(f"postgresql+psycopg2://lakefeed:{given['POSTGRES_PASSWORD']}@postgres:5432/")


def test_the_settings_are_read_as_they_are_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFEED_CONFIG", str(DEPLOY / "lakefeed.toml"))
    monkeypatch.setenv("LAKEFEED__CATALOG__URI", variables()["LAKEFEED__CATALOG__URI"])
    settings = Settings.load()
    assert (settings.warehouse, settings.blob_url) == ("s3://lakefeed/warehouse", "s3://lakefeed/blobs")
    assert settings.catalog.patience == 60


def test_services_name_services_and_volumes_that_there_are() -> None:
    for service in SERVICES.values():
        assert set(service.get("depends_on", ())) <= set(SERVICES)
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            assert source in COMPOSE["volumes"] or (DEPLOY / source).is_file(), mount
    assert OURS == ["code", "webserver", "daemon"]


def test_the_databases_and_buckets_are_made_that_the_example_names() -> None:
    made = set(re.findall(r"CREATE DATABASE (\w+)", (DEPLOY / "databases.sql").read_text()))
    given = variables()
    assert {given[name].rsplit("/", 1)[1] for name in ("DAGSTER_POSTGRES_URL", "LAKEFEED__CATALOG__URI")} == made
    buckets = re.search(r"-bucket=(\S+)", SERVICES["objects"]["command"])
    assert buckets is not None
    assert set(buckets[1].split(",")) == {"lakefeed", given["DAGSTER_LOGS_BUCKET"]}


@pytest.mark.live
@pytest.mark.parametrize("name", OURS)
def test_the_commands_are_there_and_know_their_options(name: str) -> None:
    command = SERVICES[name]["command"].split()
    words = [word for word in command[1:3] if not word.startswith("-")]
    shown = subprocess.run([BIN / command[0], *words, "--help"], capture_output=True, text=True, check=True).stdout
    for option in (word for word in command if word.startswith("-")):
        assert re.search(rf"(?<![\w-]){option}\b", shown), option


def test_the_image_starts_what_the_compose_file_starts() -> None:
    (command,) = re.findall(r"^CMD (\[.*\])$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert yaml.safe_load(command) == SERVICES["code"]["command"].split()


def test_what_the_image_copies_is_there_and_not_ignored() -> None:
    allowed = [line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[0] == "!"]
    text = (DEPLOY / "Dockerfile").read_text()
    sources = [word for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE) for word in line.split()[:-1]]
    for source in (word for word in sources if not word.startswith("--")):
        assert (ROOT / source).exists(), source
        assert any(each == source or each.startswith(f"{source}/") for each in allowed), source


def test_the_extras_of_the_image_are_those_of_the_makefile_but_torch() -> None:
    (image,) = re.findall(r"\./sdk\[([^]]*)\]", (DEPLOY / "Dockerfile").read_text())
    (developers,) = re.findall(r"\./sdk\[([^]]*)\]", (ROOT / "Makefile").read_text())
    assert set(image.split(",")) == set(developers.split(",")) - {"torch"}


@pytest.mark.skipif(shutil.which("hadolint", path=str(BIN)) is None, reason="hadolint has no build for this machine")
def test_the_dockerfile_is_in_good_style() -> None:
    done = subprocess.run([BIN / "hadolint", DEPLOY / "Dockerfile"], capture_output=True, text=True)
    assert done.stdout == ""


def test_the_launcher_for_ecs_takes_its_configuration() -> None:
    from dagster_aws.ecs import EcsRunLauncher

    launcher = yaml.safe_load((DEPLOY / "ecs" / "dagster.yaml").read_text())["run_launcher"]
    assert launcher["class"] == EcsRunLauncher.__name__
    result = process_config(resolve_to_config_type(EcsRunLauncher.config_type()), launcher["config"])
    assert result.success, result.errors


def test_the_values_for_kubernetes_say_the_same_as_the_instance() -> None:
    values = yaml.safe_load((DEPLOY / "kubernetes" / "values.yaml").read_text())
    instance = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())
    logs = values["computeLogManager"]
    assert logs["type"] == instance["compute_logs"]["class"]
    assert logs["config"]["s3ComputeLogManager"]["prefix"] == instance["compute_logs"]["config"]["prefix"]
    retries = values["dagsterDaemon"]["runRetries"]
    assert retries["maxRetries"] == instance["run_retries"]["max_retries"]
    assert retries["retryOnAssetOrOpFailure"] == instance["run_retries"]["retry_on_asset_or_op_failure"]
    kept, kept_here = values["retention"], instance["retention"]
    assert kept_here["sensor"]["purge_after_days"].items() <= kept["sensor"]["purgeAfterDays"].items()
    assert kept["schedule"]["purgeAfterDays"] == kept_here["schedule"]["purge_after_days"]
    for ticks in ("sensors", "schedules"):
        assert values["dagsterDaemon"][ticks]["numWorkers"] == instance[ticks]["num_workers"]
    (code,) = values["dagster-user-deployments"]["deployments"]
    assert " ".join(code["codeServerArgs"]) in SERVICES["code"]["command"]


def test_new_datasets_are_announced_to_the_webserver_of_kubernetes() -> None:
    values = yaml.safe_load((DEPLOY / "kubernetes" / "values.yaml").read_text())
    webserver, (code,) = values["dagsterWebserver"], values["dagster-user-deployments"]["deployments"]
    (url,) = [each["value"] for each in code["env"] if each["name"] == "LAKEFEED_DAGSTER_URL"]
    port = webserver["service"]["port"]
    assert url == f"http://lakefeed-{webserver['nameOverride']}:{port}"
    assert port == webserver["readinessProbe"]["httpGet"]["port"] >= 1024, "the image's user is not root"


def test_the_launcher_for_kubernetes_is_in_the_image_and_takes_its_configuration() -> None:
    from dagster_k8s import K8sRunLauncher

    launcher = yaml.safe_load((DEPLOY / "kubernetes" / "values.yaml").read_text())["runLauncher"]
    assert launcher["type"] == K8sRunLauncher.__name__
    assert "'.[kubernetes]'" in (DEPLOY / "Dockerfile").read_text()
    given = launcher["config"]["k8sRunLauncher"]
    config = {
        "service_account_name": "runs",
        "dagster_home": "/opt/dagster/home",
        "instance_config_map": "instance",
        "image_pull_policy": given["imagePullPolicy"],
        "env_secrets": [secret["name"] for secret in given["envSecrets"]],
        "resources": given["resources"],
    }
    result = process_config(resolve_to_config_type(K8sRunLauncher.config_type()), config)
    assert result.success, result.errors


@pytest.mark.parametrize(("children", "ends"), [("17 ", False), ("", True), (None, False)])
def test_the_code_server_ends_when_the_process_behind_its_proxy_is_gone(
    children: str | None, ends: bool, tmp_path: Path
) -> None:
    _, check = SERVICES["code"]["healthcheck"]["test"]
    (tmp_path / "1").mkdir()
    if children is not None:
        (tmp_path / "1" / "children").write_text(children)
    here = check.replace("/proc/1/task", str(tmp_path)).replace("kill 1", "echo ended")
    assert here != check
    _, _, rest = here.partition("&&")
    done = subprocess.run(["sh", "-c", f"true && {rest}"], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("ended\n" if ends else "", "")
