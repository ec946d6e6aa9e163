"""Keys of one run's Dask cluster: whoever has them may use its workers, nobody else can."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wsi_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from distributed import Security


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """One certificate, for scheduler, workers and client, and its key."""

    certificate: Path
    key: Path

    def flags(self) -> list[str]:
        """Return what a Dask worker is started with."""
        certificate, key = str(self.certificate), str(self.key)
        return ["--tls-ca-file", certificate, "--tls-cert", certificate, "--tls-key", key]

    def security(self) -> "Security":
        """Return what scheduler, client and jobs take."""
        from distributed import Security

        certificate, key = str(self.certificate), str(self.key)
        roles = ("scheduler", "worker", "client")
        return Security(
            require_encryption=True,
            tls_ca_file=certificate,
            **{f"tls_{role}_cert": certificate for role in roles},
            **{f"tls_{role}_key": key for role in roles},
        )


def keys_in(folder: Path) -> Keys:
    """Return where the keys of a cluster lie in its folder."""
    return Keys(certificate=folder / "certificate.pem", key=folder / "key.pem")


def make_keys(folder: Path) -> Keys:
    """Return new keys, in files that only this user can read.

    Raises
    ------
    ConfigError
        The package ``cryptography`` is not installed.
    """
    from distributed import Security

    try:
        made = Security.temporary().get_tls_config_for_role("client")
    except ImportError as error:
        raise ConfigError(
            "cluster: expected the package cryptography, by which workers on other machines are "
            "reached safely, found none; pip install 'wsi-pipeline[hpc]'"
        ) from error
    keys = keys_in(folder)
    _write_private(keys.certificate, made["cert"])
    _write_private(keys.key, made["key"])
    return keys


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
        handle.write(text)
