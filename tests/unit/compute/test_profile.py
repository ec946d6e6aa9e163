"""Profiles of batch systems: what they take, what they refuse, what follows from them."""

from pathlib import Path

import pytest

from wsi_pipeline.compute.cluster import cluster_of, usable_cores
from wsi_pipeline.compute.profile import Profile, read_profile
from wsi_pipeline.config import BATCH_KINDS, expected_of, make_config
from wsi_pipeline.errors import ConfigError

BAD_VALUES = [
    ("kind", "torque"),
    ("jobs", 0),
    ("cores", 1.5),
    ("memory", "8"),
    ("memory", "8kB"),
    ("walltime", "4:00"),
    ("walltime", 14400),  # what YAML makes of 4:00:00 without quotes
    ("walltime", "00:00:59"),
    ("queue", "two words"),
    ("scratch", ""),
    ("modules", "apptainer"),
    ("prologue", "a\nb"),
    ("python", "a\nb"),
    ("lsf_units", "MB"),
    ("array_jobs", 1001),
    ("wait_minutes", 0),
]


@pytest.mark.parametrize("kind", BATCH_KINDS)
def test_a_batch_systems_name_is_a_profile(kind: str) -> None:
    assert read_profile(kind).kind == kind


def test_a_profile_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text('kind: pbs\njobs: 7\nwalltime: "24:00:00"\nmodules: [a, b]\n')
    profile = read_profile(str(path))
    assert (profile.kind, profile.jobs, profile.walltime_s) == ("pbs", 7, 86400)
    assert profile.modules == ("a", "b")


@pytest.mark.parametrize(("name", "value"), BAD_VALUES)
def test_a_bad_value_is_one_sentence_with_what_was_expected_and_what_came(
    name: str, value: object
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_config(Profile, {"kind": "slurm", name: value})
    assert str(caught.value) == f"{name}: expected {expected_of(Profile, name)}, got {value!r}"


def test_a_profile_with_an_unknown_key_is_refused_with_the_one_meant(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("kind: slurm\npartition: main\nqueu: main\n")
    with pytest.raises(ConfigError, match=r"site\.yaml: unknown key partition, queu"):
        read_profile(str(path))


def test_a_profile_says_its_kind(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("queue: main\n")
    with pytest.raises(
        ConfigError, match=r"site\.yaml: expected a line 'kind: ' with one of slurm"
    ):
        read_profile(str(path))


def test_a_profile_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: expected a YAML file"):
        read_profile("nowhere.yaml")


def test_htcondor_has_no_queue_and_takes_pairs() -> None:
    with pytest.raises(ConfigError, match="queue: HTCondor has none, got 'main'"):
        Profile(kind="htcondor", queue="main")
    with pytest.raises(ConfigError, match="directives: expected lines 'key = value'"):
        Profile(kind="htcondor", directives=("+Long",))


@pytest.mark.parametrize("walltime", ["00:01:00", "00:30:00", "04:00:00", "168:00:00"])
def test_every_worker_leaves_before_its_job_is_ended(walltime: str) -> None:
    profile = Profile(kind="slurm", walltime=walltime)
    lifetime_s, stagger_s = profile.lifetime_s
    assert stagger_s >= 2
    assert lifetime_s + stagger_s <= profile.walltime_s - min(180, profile.walltime_s // 20)


def test_as_many_jobs_are_asked_for_as_have_the_cores_that_are_wanted(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("kind: slurm\njobs: 3\ncores: 8\n")
    assert cluster_of(str(path)).workers == 24
    assert cluster_of(str(path), workers=20).workers == 24
    assert read_profile(str(path), slots=20).jobs == 3
    assert cluster_of("processes").workers == usable_cores()


def test_an_array_has_jobs_that_replace_others_but_no_more_than_slurm_takes() -> None:
    assert Profile(kind="slurm-array", jobs=8).size_of_array == 80
    assert Profile(kind="slurm-array", jobs=300).size_of_array == 1000
    assert Profile(kind="slurm-array", jobs=8, array_jobs=9).size_of_array == 9
