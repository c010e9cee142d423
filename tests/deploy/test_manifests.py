"""The Kubernetes manifests and the systemd unit: confined, consistent, and with known settings.

Tests say with what change of the files that they read they were seen to fail.
"""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import tomllib

import pytest
import yaml
from support.deployment import DEPLOY, ROOT

from hyperoracle_client.cli import main
from hyperoracle_client.settings import ClientSettings
from hyperoracle_server.settings import ServerSettings

FILES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
OBJECTS = [found for file in FILES for found in yaml.safe_load_all(file.read_text())]
PODS = [o["spec"]["template"]["spec"] for o in OBJECTS if "template" in o["spec"]]
UNIT = DEPLOY / "systemd/hyperoracle.service"


def of_kind(kind):
    return next(o for o in OBJECTS if o["kind"] == kind)


def test_there_is_one_oracle_with_one_volume_behind_one_address():
    """Seen to fail with two replicas, and with a liveness probe that asks for readiness."""
    oracle, service = of_kind("StatefulSet"), of_kind("Service")
    assert oracle["spec"]["replicas"] == 1
    labels = oracle["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert oracle["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert oracle["spec"]["serviceName"] == service["metadata"]["name"]
    container = oracle["spec"]["template"]["spec"]["containers"][0]
    named = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert named[service["spec"]["ports"][0]["targetPort"]] == 8080
    for probe, path in (("startup", "/readyz"), ("readiness", "/readyz"), ("liveness", "/livez")):
        assert container[f"{probe}Probe"]["httpGet"] == {"path": path, "port": "http"}


@pytest.mark.parametrize("pod", PODS, ids=lambda pod: pod["containers"][0]["name"])
def test_a_pod_is_confined_and_mounts_what_it_has(pod):
    """Seen to fail with a root file system that can be written, a user that may be root, links to
    services, and privileges that may be gained."""
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    # Kubernetes would set HYPERORACLE_PORT=tcp://... for a service of that name.
    assert pod["enableServiceLinks"] is False
    claims = of_kind("StatefulSet")["spec"]["volumeClaimTemplates"]
    volumes = {v["name"] for v in pod["volumes"]} | {c["metadata"]["name"] for c in claims}
    for container in pod["containers"]:
        confined = container["securityContext"]
        assert confined["readOnlyRootFilesystem"] is True
        assert confined["allowPrivilegeEscalation"] is False
        assert confined["capabilities"] == {"drop": ["ALL"]}
        assert {m["name"] for m in container["volumeMounts"]} <= volumes
        assert "memory" in container["resources"]["limits"]


def test_a_shutdown_is_given_longer_than_the_server_takes_for_it():
    """Seen to fail with a server that takes 80 s for a shutdown."""
    pod = of_kind("StatefulSet")["spec"]["template"]["spec"]
    wanted = ServerSettings.model_fields["shutdown_seconds"].default
    assert pod["terminationGracePeriodSeconds"] > wanted + 2
    assert float(unit()["Service"]["TimeoutStopSec"]) > wanted + 2


def test_environment_variables_are_settings_and_images_are_of_this_release():
    """Seen to fail with a variable that is misspelt."""
    manifest = tomllib.loads((ROOT / "server/pyproject.toml").read_text())
    for pod, fields in zip(PODS, (ServerSettings, ClientSettings), strict=True):
        container = pod["containers"][0]
        for variable in container["env"]:
            assert variable["name"].removeprefix("HYPERORACLE_").lower() in fields.model_fields
        assert container["image"].endswith(f":{manifest['project']['version']}")


def test_the_example_jobs_command_is_one_that_the_trainer_takes_and_finds_the_oracle(capsys):
    """Seen to fail with an option that is misspelt."""
    arguments = PODS[1]["containers"][0]["args"]
    assert main([*arguments, "--dry-run"]) == 0
    capsys.readouterr()
    url = arguments[arguments.index("--oracle") + 1]
    assert url == f"http://{of_kind('Service')['metadata']['name']}:8080"


def unit():
    """The unit's sections; of a key given more than once the values are joined."""

    class Joined(dict):
        def __setitem__(self, key, value):
            if key in self and isinstance(value, list):
                value = self[key] + value
            super().__setitem__(key, value)

    parser = configparser.RawConfigParser(dict_type=Joined, strict=False)
    parser.optionxform = str
    parser.read(UNIT)
    return parser


def test_the_unit_gives_known_settings_and_confines_the_service():
    """Seen to fail with a setting that is misspelt, a user that stays, a system that can be
    written, and no credential."""
    service = unit()["Service"]
    settings = re.findall(r"HYPERORACLE_(\w+)=", service["Environment"])
    assert settings
    assert [s for s in settings if s.lower() not in ServerSettings.model_fields] == []
    assert service["ExecStart"].endswith("-m hyperoracle_server")
    assert service["DynamicUser"] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["LoadCredential"].split(":")[0] == "admin-token"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_systemd_has_nothing_against_the_unit(tmp_path):
    """Seen to fail with `LoadCredentials` for `LoadCredential`."""
    program = shutil.which("true")
    text = UNIT.read_text().replace("/opt/hyperoracle/bin/python", program)
    copy = tmp_path / UNIT.name
    copy.write_text(text)
    verified = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False
    )
    complaints = [x for x in verified.stderr.splitlines() if UNIT.name in x]
    assert complaints == []
