import os
import socket

import pytest

from wsi_pipeline import remote
from wsi_pipeline.remote import is_gone, owner

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
