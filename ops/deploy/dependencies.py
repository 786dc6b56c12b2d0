"""Known vulnerabilities of what is installed, and a bill of materials: the part ``dependencies`` of ``.ci/run``.

    python ops/deploy/dependencies.py TOOLS ENVIRONMENT SBOM

TOOLS is the folder with ``pip-audit`` and ``cyclonedx-py``, ENVIRONMENT the virtual environment looked at, SBOM where
the bill is written to (CycloneDX, JSON). A known vulnerability fails (exit 1). An advisory service that does
not answer, or does not know a package, says nothing about it: that is printed, named, and does not fail.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

AUDIT_S = 240
OWN = "bytewax-seawall"


class Audit(NamedTuple):
    """Result of an audit: a line for each vulnerability, and the packages that nobody could judge with the reason."""

    vulnerable: list[str]
    unjudged: dict[str, str]
    judged: int


def read_audit(output: str) -> Audit:
    """Read the JSON that ``pip-audit`` prints; raise ValueError where it is none.

    Examples
    --------
    >>> read_audit('{"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "X-1", "fix_versions": ["2"]}]}]}')
    Audit(vulnerable=['a 1: X-1, mended in 2'], unjudged={}, judged=1)
    """
    vulnerable, unjudged, judged = list[str](), dict[str, str](), 0
    for package in json.loads(output)["dependencies"]:
        if "skip_reason" in package:
            unjudged[package["name"]] = package["skip_reason"]
            continue
        judged += 1
        for found in package["vulns"]:
            fixed = ", ".join(found.get("fix_versions", [])) or "no version yet"
            vulnerable.append(f"{package['name']} {package['version']}: {found['id']}, mended in {fixed}")
    unjudged.pop(OWN, None)
    return Audit(vulnerable, unjudged, judged)


def audit(tools: Path, environment: Path) -> int:
    """Print what is known to be vulnerable, and what could not be judged; return 1 where anything is vulnerable."""
    packages = next((environment / "lib").glob("python3*")) / "site-packages"
    words: list[str | Path] = [tools / "pip-audit", "--path", packages, "--format", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=AUDIT_S, check=False)
        found = read_audit(done.stdout)
    except subprocess.TimeoutExpired:
        print(f"not audited: the advisory service did not answer within {AUDIT_S} s")
        return 0
    except (ValueError, KeyError):
        print(f"not audited: {(done.stderr.strip() or 'pip-audit said nothing').splitlines()[-1]}")
        return 0
    for line in found.vulnerable:
        print(f"vulnerable: {line}")
    if found.unjudged:
        names, reason = ", ".join(sorted(found.unjudged)), next(iter(found.unjudged.values()))
        print(f"not audited: {len(found.unjudged)} packages ({names}); of the first the service says: {reason}")
    print(f"{found.judged} packages audited, {len(found.vulnerable)} known vulnerabilities")
    return 1 if found.vulnerable else 0


def write_bill(tools: Path, environment: Path, target: Path) -> int:
    """Write the bill of materials; return 1 where it lacks something that is installed."""
    words: list[str | Path] = [
        tools / "cyclonedx-py",
        "environment",
        environment / "bin" / "python",
        "--of",
        "JSON",
        "-o",
        target,
    ]
    subprocess.run(words, check=True, capture_output=True, timeout=AUDIT_S)
    bill: dict[str, Any] = json.loads(target.read_bytes())
    listed = {component["name"].lower().replace("_", "-") for component in bill["components"]}
    words = [environment / "bin" / "python", "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"]
    said = subprocess.run(words, check=True, capture_output=True, timeout=AUDIT_S).stdout
    missing = {package["name"].lower().replace("_", "-") for package in json.loads(said)} - listed - {OWN}
    print(f"{target}: {len(listed)} components in CycloneDX {bill['specVersion']}")
    if missing:
        print(f"not in the bill of materials: {', '.join(sorted(missing))}")
    return 1 if missing else 0


def main() -> int:
    """Audit and write the bill; return the exit code."""
    tools, environment, target = map(Path, sys.argv[1:4])
    return max(write_bill(tools, environment, target), audit(tools, environment))


if __name__ == "__main__":
    sys.exit(main())
