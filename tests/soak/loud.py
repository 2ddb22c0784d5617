"""A command of Guerdon's with every log turned up, and a way to crash in the middle.

    python -m tests.soak.loud WORDS...

With ``CRASH`` in the environment an error of no known kind comes up inside the HTTP
library, in the middle of a call, and ends the process with its whole traceback. With
``LIGHT`` the trainings take no time and no torch.
"""

import functools
import logging
import os
import sys
from typing import Any

from guerdon.cli import main


def _crash(deadline: Any, name: str, info: Any) -> None:
    if name.endswith("receive_response_headers.complete"):
        raise RuntimeError("as it was told to")


if __name__ == "__main__":
    logging.basicConfig(level=logging.DEBUG)
    if os.environ.get("CRASH"):
        from guerdon.llm.wire import Deadline

        Deadline.trace = _crash
    if os.environ.get("LIGHT"):
        from guerdon import run
        from guerdon.agents import workers
        from tests.run_controller import _start_light_server

        workers.start_server = _start_light_server
        run.Resources = functools.partial(
            run.Resources, function="tests.run_jobs:train"
        )
    sys.exit(main(sys.argv[1:]))
