"""The decoders under Atheris, which follows coverage, from the stored corpus on. Optional: it wants clang's libFuzzer.

    pip install atheris                                             # 3.0 has wheels for Python 3.11 and later
    PYTHONPATH=tests python tests/fuzz_atheris.py TARGET [-max_total_time=60] [options of libFuzzer]

Without TARGET the names of the targets are printed. An exception that a decoder may not raise ends it with the input in
a file ``crash-…``; put that into ``tests/fuzz_corpus`` beside the mend. The same targets are changed at random without
Atheris by ``tests/schemas/test_fuzz.py``, a million inputs and more.
"""

import contextlib
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["seawall"]):
    from seawall_testing import fuzz


def main() -> None:
    """Fuzz one target."""
    known = {target.name: target for target in fuzz.targets()}
    target = known.get(sys.argv[1] if len(sys.argv) > 1 else "")
    if target is None:
        sys.exit(f"name one of: {', '.join(known)}")

    def attempt(data: bytes) -> None:
        with contextlib.suppress(target.raises):
            target.decode(data)

    with tempfile.TemporaryDirectory() as place:
        for number, seed in enumerate(target.seeds):
            (Path(place) / str(number)).write_bytes(seed)
        atheris.Setup([sys.argv[0], *sys.argv[2:], f"-max_len={fuzz.INPUT_BYTES_MAX}", place], attempt)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
