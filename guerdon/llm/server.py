"""The child process that runs a model: ``python -m guerdon.llm.server``.

One line of JSON comes in on standard input (model, key, threads, context), one line
goes out when the server listens (its address). The process ends when its standard input
does, or when its parent is gone; it opens a port on the loopback only.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any, NoReturn


def main() -> NoReturn:
    """Serve until nobody is there to serve."""
    parent = os.getppid()
    settings = json.loads(sys.stdin.readline())
    # The library writes to standard output; our one line goes out on a copy of it.
    reply = os.dup(1)
    os.dup2(2, 1)
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
    try:
        server = _serve(settings)
    except RuntimeError as error:
        # What the library wrote before says more than a traceback of ours.
        sys.exit(str(error))
    os.write(reply, json.dumps({"address": server.listening_address}).encode() + b"\n")
    os.close(reply)
    sys.stdin.read()
    # The native server has threads that a polite exit would wait for.
    os._exit(0)


def _leave_with(parent: int) -> NoReturn:
    """End when the parent has ended, even if someone still holds our input open.

    Linux can send a signal instead, but it sends it when the parent's THREAD ends that
    started us, and a pool's thread may.
    """
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)


def _serve(settings: dict[str, Any]) -> Any:
    """Start the native server; returns when the model is loaded."""
    if sys.platform != "win32":
        import resource

        # A core file would hold the key and the prompts.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from guerdon.extras import require

    xllamacpp = require("xllamacpp", "embedded")
    params = xllamacpp.CommonParams()
    params.model.path = settings["model"]
    params.n_ctx = settings["context"]
    params.n_parallel = 1
    params.cpuparams.n_threads = settings["threads"]
    params.cpuparams_batch.n_threads = settings["threads"]
    params.api_keys = [settings["key"]]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.ui = False
    params.offline = True
    params.endpoint_slots = False
    # Its default keeps up to 8 GiB of old prompts; the slot's own prefix is enough.
    params.cache_ram_mib = 0
    # Errors only, which nobody reads unless the server dies of them.
    params.verbosity = 1
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
