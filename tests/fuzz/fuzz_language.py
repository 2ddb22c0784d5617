"""Coverage-guided fuzzing of the language: ``make fuzz``.

    python -m tests.fuzz.fuzz_language CORPUS... [-max_total_time=600 ...]

The first folder takes inputs that reached new code; what breaks a property, hangs or
eats memory is written to ``crash-*``, ``timeout-*`` or ``oom-*`` beside it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["guerdon.reward_design.language"]):
    from tests.fuzz.one_input import ACTIONS, LAYOUT, one_input

WORDS = (
    *("prev.", "now.", "action", "params.", "PARAMS = {", "def reward(", "return {"),
    *("if ", "elif ", "else:\n", "for i in range(3):\n", "where(", "clip(", "exp("),
    *("delta(", "count(", "first_time(", "previous_best(", "sum(", "norm(", "max("),
    *(" and ", " or ", "not ", " < ", " == ", " ** ", " / ", " - ", "1e308", "-0.0"),
    *("[i]", "[0]", "    ", "lambda ", "import ", "__class__", ":=", "\\x00", "#"),
)


def main() -> None:
    """Hand over to libFuzzer, with the words of the language."""
    names = [feature.name for feature in LAYOUT]
    with tempfile.NamedTemporaryFile("w", suffix=".dict") as words:
        for word in (*WORDS, *names):
            escaped = word.replace("\n", "\\x0a").replace('"', '\\"')
            words.write(f'"{escaped}"\n')
        words.flush()
        atheris.Setup([*sys.argv, f"-dict={words.name}"], _test)
        atheris.Fuzz()


def _test(data: bytes) -> None:
    one_input(data)


def seeds(folder: Path, count: int = 40) -> None:
    """Write programs of the sampler as first inputs."""
    import numpy as np

    from guerdon.reward_design.language import to_source
    from guerdon.reward_design.language.sample import sample

    rng = np.random.default_rng(0)
    for number in range(count):
        action = ACTIONS[number % 2]
        text = to_source(sample(LAYOUT, action, rng))
        (folder / f"seed-{number:02d}").write_bytes(bytes([number % 2]) + text.encode())


if __name__ == "__main__":
    main()
