"""A whole run in a process of its own, which kills itself where it is told to.

    python tests/run_controller.py FOLDER CONFIG KIND COUNT

``CONFIG`` is JSON for ``RunConfig``; the process dies of SIGKILL when the observer is
told of ``KIND`` for the ``COUNT``-th time.
"""

import json
import multiprocessing
import multiprocessing.forkserver
import os
import signal
import sys
from pathlib import Path
from typing import Any


def _start_light_server(populations_only: bool = False) -> None:
    """Workers without torch, which these trainings do not need."""
    from guerdon.agents import server

    with server.serialised, server.worker_environment():
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.run_jobs"])
        multiprocessing.forkserver.ensure_running()


def main(folder: str, config: str, kind: str, count: str) -> None:
    # Imported here, since every worker imports this file's top level too.
    from guerdon.agents import workers
    from guerdon.run import Resources, RunConfig, run_search

    workers.start_server = _start_light_server
    seen = 0

    def observe(what: str, data: Any) -> None:
        nonlocal seen
        seen += what == kind
        if seen == int(count):
            os.kill(os.getpid(), signal.SIGKILL)

    resources = Resources(workers=2, function="tests.run_jobs:train")
    run_search(RunConfig(**json.loads(config)), Path(folder), resources, observe)


if __name__ == "__main__":
    main(*sys.argv[1:])
