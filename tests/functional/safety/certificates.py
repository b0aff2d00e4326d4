"""Certificates for tests: an authority of one's own, and what it signs, by the command `openssl`."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    cert: Path
    key: Path


class Authority:
    """Its files lie in `directory`, which it makes."""

    def __init__(self, directory: Path, name: str = "Selvedge's test authority") -> None:
        directory.mkdir(parents=True)
        self.directory = directory
        self.pair = Pair(directory / "ca.pem", directory / "ca.key")
        self._openssl("req", "-x509", *_new_key(self.pair.key), "-subj", f"/CN={name}", "-out", str(self.pair.cert))

    @property
    def file(self) -> Path:
        """What those trust who trust this authority."""
        return self.pair.cert

    def sign(self, common_name: str, *addresses: str, days: int = 1) -> Pair:
        """A certificate with this common name and these names of a server; `days` below 0: it expired."""
        stem = self.directory / f"{common_name}{days}"
        pair = Pair(stem.with_name(stem.name + ".pem"), stem.with_name(stem.name + ".key"))
        request, more = stem.with_name(stem.name + ".csr"), stem.with_name(stem.name + ".ext")
        names = ",".join(f"{'IP' if one[0].isdigit() else 'DNS'}:{one}" for one in addresses)
        more.write_text(f"subjectAltName={names}\n" if names else "basicConstraints=CA:FALSE\n")
        self._openssl("req", *_new_key(pair.key), "-subj", f"/CN={common_name}", "-out", str(request))
        self._openssl(
            *("x509", "-req", "-in", str(request), "-CA", str(self.pair.cert), "-CAkey", str(self.pair.key)),
            *("-CAcreateserial", "-days", str(days), "-extfile", str(more), "-out", str(pair.cert)),
        )
        return pair

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=30)


def _new_key(path: Path) -> tuple[str, ...]:
    return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(path))
