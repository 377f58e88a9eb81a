import asyncio
import re
from pathlib import Path

import pytest

from models.errors import ConfigError
from service.label_cache import open_label_cache
from service.settings import Settings, is_loopback

ROOT = Path(__file__).parents[2]


def test_variables_are_read_by_name_and_flags_go_first(tmp_path):
    environment = {
        "ESCI_RELEASE": str(tmp_path),
        "ESCI_PORT": "9000",
        "ESCI_WORKERS": "3",
        "ESCI_VECTORS": str(tmp_path / "vectors"),
        "ESCI_TRAIN__SEED": "7",  # of the pipelines
        "HOME": "/somewhere",
    }
    settings = Settings.from_environment(environment, port=9001, workers=None)
    assert (settings.release, settings.port, settings.workers) == (tmp_path, 9001, 3)
    assert settings.vectors == tmp_path / "vectors"


def test_home_holds_the_registry_and_the_cache_that_are_not_named():
    settings = Settings.from_environment({"ESCI_HOME": "/var/esci"})
    assert str(settings.release) == "/var/esci"
    assert settings.cache == "sqlite:////var/esci/cache/labels.sqlite"
    assert Settings.from_environment({}).cache == "sqlite:///.esci/cache/labels.sqlite"


@pytest.mark.parametrize(
    "name", ["my#home", "what?", "100%", "%41", "a b", "épée", "ホーム", "a+b&c;d"]
)
def test_the_cache_lies_in_the_home_whatever_that_is_called(tmp_path, name):
    settings = Settings.from_environment({"ESCI_HOME": str(tmp_path / name)})
    cache = open_label_cache(settings.cache, ttl_seconds=60, megabytes=1, timeout_ms=50)
    asyncio.run(cache.close())
    assert (tmp_path / name / "cache" / "labels.sqlite").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("mark", ["?", "#"])
def test_a_cache_url_that_would_end_early_is_refused(tmp_path, mark):
    with pytest.raises(ConfigError, match="%3F and %23"):
        open_label_cache(
            f"sqlite:///{tmp_path}/my{mark}home/labels.sqlite",
            ttl_seconds=60,
            megabytes=1,
            timeout_ms=50,
        )
    assert not list(tmp_path.iterdir())


def test_what_an_orchestrator_says_of_a_neighbour_is_no_setting():
    addresses = {"PORT": "tcp://10.0.0.7:8000"}
    for port in ("PORT_8000_TCP", "PORT_53_UDP"):
        addresses |= {port: "tcp://10.0.0.7:8000", f"{port}_PROTO": "tcp"}
        addresses |= {f"{port}_PORT": "8000", f"{port}_ADDR": "10.0.0.7"}
    addresses |= {"SERVICE_HOST": "10.0.0.7", "SERVICE_PORT": "8000", "SERVICE_PORT_HTTP": "8000"}
    environment = {
        f"{neighbour}_{name}": value
        for neighbour in ("ESCI", "ESCI_REDIS")
        for name, value in addresses.items()
    }
    assert Settings.from_environment(environment) == Settings.from_environment({})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ESCI_SERVICE_HOTS", "x"),
        ("ESCI_PORT_NUMBER", "1"),
        ("ESCI_PROT", "tcp://10.0.0.7:8000"),
        ("ESCI_REDIS_PORT", "6379"),
        ("ESCI_REDIS", "tcp://10.0.0.7:6379"),
    ],
)
def test_what_only_resembles_a_neighbour_is_refused(name, value):
    with pytest.raises(ConfigError, match=f"{name} is set"):
        Settings.from_environment({name: value})


def test_compose_gives_the_service_only_variables_it_knows_and_takes_none_of_the_same_prefix():
    compose = (ROOT / "docker-compose.yml").read_text()
    assert not re.findall(r"\$\{?ESCI_\w*", compose)
    given = dict(re.findall(r'^ +(ESCI_\w+): "?([^"\n]*)"?$', compose, re.MULTILINE))
    assert Settings.from_environment(given).cache == given["ESCI_CACHE"]


def test_an_unknown_variable_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"ESCI_PROT is set .*ESCI_HOME.*ESCI_PORT"):
        Settings.from_environment({"ESCI_PROT": "1"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ESCI_PORT", "abc"),
        ("ESCI_PORT", "70000"),
        ("ESCI_WORKERS", "0"),
        ("ESCI_MAX_PAIRS", "-1"),
        ("ESCI_ALLOW_REMOTE", "perhaps"),
        ("ESCI_CACHE_TTL_SECONDS", "0"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=f"{name} is '{value}'"):
        Settings.from_environment({name: value})


@pytest.mark.parametrize("host", ["::", "192.168.1.7", "example.com", ""])
def test_an_address_that_others_reach_is_refused_unless_allowed(host):
    with pytest.raises(ConfigError, match="ESCI_ALLOW_REMOTE=1"):
        Settings.from_environment({"ESCI_HOST": host})
    allowed = Settings.from_environment({"ESCI_HOST": host, "ESCI_ALLOW_REMOTE": "1"})
    assert allowed.host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost"])
def test_loopback_is_served_without_more_ado(host):
    assert is_loopback(host)
    assert Settings.from_environment({"ESCI_HOST": host}).host == host


def test_what_other_rooms_read_is_not_unknown():
    environment = {"ESCI_LANGUAGE_ENGINE": "openvino", "ESCI_LANGUAGE_THREADS": "2"}
    assert Settings.from_environment(environment) == Settings.from_environment({})
