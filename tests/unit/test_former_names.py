"""Settings as earlier versions wrote them work, and say how they are written now."""

import logging

import pytest

from locheads.audit.config import AuditConfig
from locheads.data.config import DatasetConfig
from locheads.errors import ConfigError
from locheads.grounding.config import GroundingConfig, Resolution
from locheads.settings import FORMER, renamed


@pytest.mark.parametrize("prefix", ["", "+", "++"])
def test_an_override_gets_its_name_of_today(prefix, caplog):
    for former, now in FORMER.items():
        value = "" if "=" in former else "=x"
        with caplog.at_level(logging.WARNING):
            assert renamed(f"{prefix}{former}{value}") == f"{prefix}{now}{value}"
        assert f"{former} is called {now} now" in caplog.text


def test_other_overrides_stay_as_they_are(caplog):
    for override in ("grounding.resolution=grid", "grounding.resolution=pictures", "heads.k=3", "runs=[picture]"):
        assert renamed(override) == override
    assert not caplog.records


def test_a_setting_inside_of_a_renamed_group_gets_its_name_of_today():
    assert renamed("++audit.alone.grounding.padding=[mapped]") == "++audit.single.grounding.padding=[mapped]"
    assert renamed("audit.alones=1") == "audit.alones=1"
    assert AuditConfig(alone={"grounding": {"clamp": [True]}}).single == {"grounding": {"clamp": [True]}}


def test_values_and_names_given_in_python_are_read_too(caplog):
    assert GroundingConfig(resolution="picture").resolution is Resolution.image
    assert DatasetConfig(columns={"picture": "jpg"}).columns == {"image": "jpg"}
    assert len(caplog.records) == 2
    with pytest.raises(ConfigError):
        GroundingConfig(resolution="pictures")
