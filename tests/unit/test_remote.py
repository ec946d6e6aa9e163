import os
import socket
from pathlib import Path

import pytest

from wsi_pipeline import remote
from wsi_pipeline.config import TileConfig
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.remote import is_gone, is_remote, owner, place
from wsi_pipeline.stages.tile import tile_slides

NO_PROCESS = 2**22 + 1  # more than the kernel gives out


def test_a_process_of_this_machine_that_has_ended_is_gone() -> None:
    machine = owner().rpartition("-")[0]
    assert is_gone(f"{machine}-{NO_PROCESS}")
    assert not is_gone(f"{machine}-{os.getpid()}")


@pytest.mark.parametrize("who", ["", "-", "user-2024", "gpu-99999999", "a-b-c"])
def test_what_is_no_process_of_this_machine_is_not_gone(
    who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "gpu-node")
    assert not is_gone(who)


def test_containers_of_one_name_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    here = owner().rpartition("-")[0]
    monkeypatch.setattr(remote, "_machine", lambda: "00000000")
    assert not is_gone(f"{here}-{NO_PROCESS}")


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIA123:hunter2@bucket/slides/a.svs",
        "sftp://me:hunter2@host/a.svs",
        "https://host/a.svs?X-Amz-Algorithm=x&X-Amz-Signature=hunter2",
        "https://host/a.svs?sv=2024&sig=hunter2",
        "https://host/a.svs?access_token=hunter2",
    ],
)
def test_a_url_with_a_secret_is_refused_and_the_secret_not_repeated(
    url: str, tmp_path: Path
) -> None:
    table = tmp_path / "slides.csv"
    table.write_text(f"path\n{url}\n", encoding="utf-8")
    for slides, run in ((url, "RUN"), ("x.svs", url), (str(table), "RUN")):
        with pytest.raises(ConfigError, match="without a password or signature") as caught:
            tile_slides([slides], tmp_path / run if run == "RUN" else run, TileConfig())
        assert "hunter2" not in str(caught.value)
        assert "AKIA123" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["slides.csv"]


@pytest.mark.parametrize(
    "url",
    ["memory://a@b/c", "memory://bucket/a:b@c.svs", "memory://bucket/a?b", "memory://b/c?d=token"],
)
def test_what_only_looks_like_a_secret_is_a_place(url: str) -> None:
    assert is_remote(place(url))
