"""Category H: programs against the jail, which full Python lets them try.

One that gets what it wants names its term ``WON`` and trains on; one that the system
refuses raises, is killed, or trains as if nothing had been. None has a function before
its ``reward``: what comes behind the first one is cut from an answer, as prose.
"""

from __future__ import annotations

from tests.adversarial.hostile import CANARY, HEAD, TAIL, TRAINS, Hostile, top

WON = "WON"
"""Name of the term of a program that had its way."""

KEY = "sk-CANARY-0123456789abcdef"
"""A key in the environment of the controller; in two parts below, or they find it."""

HALVES = "'sk-CANARY-01' '23456789abcdef'"

_TAIL = "    return {names[0]: now.pole_angle}\n"
_BLOCKED = "SIGSYS|trains"


def tries(imports: str, wanted: str) -> str:
    """A module that has won if ``wanted`` is true and raises nothing."""
    return (
        f"import {imports}\nnames = ['a']\ntry:\n    if {wanted}:\n"
        f"        names = ['{WON}']\nexcept (OSError, ValueError):\n    pass\n"
        f"{HEAD}{_TAIL}"
    )


def call(number: int, *arguments: str) -> str:
    """A raw system call of x86-64; true when it is allowed."""
    words = ", ".join((str(number), *arguments))
    return f"ctypes.CDLL(None, use_errno=True).syscall({words}) != -1"


def patched(name: str, what: str) -> str:
    """A module that puts something in the place of a function of ours."""
    return f"from guerdon.agents import jailed\njailed.{name} = {what}\n{HEAD}{TAIL}"


def forged(parts: str) -> str:
    """A module that answers in the place of the training."""
    return f"""import json, os
from guerdon.jail import zygote
curve = dict(steps=[1] * 20, episodes=[1] * 20, fitness=[9e9] * 20,
             success=[1.0] * 20, proxy=[9e9] * 20, length=[1.0] * 20, terms={{}})
text = json.dumps({{"curve": curve, "proxy": 9e9, "seconds": 0.0}}).encode()
for out in range(3, 64):
    try:
        for part in {parts}:
            zygote._send(out, b"R", part)
        os._exit(0)
    except OSError:
        pass
{HEAD}{TAIL}"""


def weights(changed: str) -> str:
    """A module whose networks have other numbers when they are written down."""
    return f"""import torch
old = torch.nn.Module.state_dict
torch.nn.Module.state_dict = lambda *a, **k: {{
    name: {changed} for name, tensor in old(*a, **k).items()}}
{HEAD}{TAIL}"""


_TAMPER = f"""from guerdon.agents import evaluate, sb3
from guerdon.envs.task import TaskEnv
TaskEnv._finish = lambda self, info, *ends: (
    setattr(self, "_over", True), info.update(fitness=1e9, success=True))
evaluate.evaluate = sb3.evaluate = sb3.judge = None
{HEAD}{TAIL}"""

_THREADS = f"""import threading
names = ["a"]
try:
    for _ in range(100_000):
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    names = ["{WON}"]
except (RuntimeError, MemoryError):
    pass
{HEAD}{_TAIL}"""

_FILES = f"""names = ["a"]
try:
    for name in range(100_000):
        with open(f"f{{name}}", "wb") as file:
            file.write(bytes(1 << 10))
    names = ["{WON}"]
except OSError:
    pass
{HEAD}{_TAIL}"""

_DISK = f"""names = ["a"]
try:
    with open("0", "wb") as file:
        for _ in range(1000):
            file.write(bytes(1 << 20))
    names = ["{WON}"]
except OSError:
    pass
{HEAD}{_TAIL}"""

_CLAIMED_NAMES = f"""import json
from guerdon.agents import jailed
old = jailed.write_claims
jailed.write_claims = lambda found: json.dumps(
    (values := json.loads(old(found))) | {{"curve": values["curve"] | {{
        "terms": {{"<script>": values["curve"]["fitness"]}}}}}}).encode()
{HEAD}{TAIL}"""

_CLAIMED_CURVE = f"""import json
from guerdon.agents import jailed
old = jailed.write_claims
jailed.write_claims = lambda found: json.dumps(
    (values := json.loads(old(found))) | {{"proxy": 9e9, "curve": values["curve"] | {{
        "fitness": [9e9] * 20}}}}).encode()
{HEAD}{TAIL}"""

_RELAY = "import os\nos.write(2, b'\\x1b]0;owned\\x07' * 99)\nos._exit(3)\n"

H = [
    Hostile(
        "H environment of the parent",
        tries("os", "open(f'/proc/{os.getppid()}/environ').read()"),
        1,
        TRAINS,
    ),
    Hostile(
        "H own environment", tries("os", f"{HALVES} in str(os.environ)"), 1, TRAINS
    ),
    Hostile(
        "H memory of Python",
        tries(
            "gc", f"{HALVES} in repr([o for o in gc.get_objects() if type(o) is dict])"
        ),
        1,
        "trains|Error|SIGSYS",
    ),
    Hostile(
        "H memory of itself",
        tries("os", "open('/proc/self/mem', 'rb').read(1)"),
        1,
        TRAINS,
    ),
    Hostile("H socket", tries("socket", "socket.socket()"), 1, _BLOCKED),
    Hostile("H pair of sockets", tries("socket", "socket.socketpair()"), 1, _BLOCKED),
    Hostile("H io_uring", tries("ctypes", call(425, "8", "0")), 1, _BLOCKED),
    Hostile("H bpf", tries("ctypes", call(321, "0", "0", "0")), 1, _BLOCKED),
    Hostile("H ptrace", tries("ctypes", call(101, "0", "0", "0", "0")), 1, _BLOCKED),
    Hostile("H new user", tries("ctypes", call(272, "0x10000000")), 1, _BLOCKED),
    Hostile(
        "H memory of others",
        tries("ctypes", call(310, "1", "0", "0", "0", "0", "0")),
        1,
        _BLOCKED,
    ),
    Hostile("H execve", tries("os", "os.execv('/bin/sh', ['sh'])"), 1, _BLOCKED),
    Hostile("H fork", tries("os", "os.fork() >= 0"), 1, "SIGSYS"),
    Hostile(
        "H subprocess",
        tries("subprocess", f"subprocess.run(['touch', {CANARY!r}])"),
        1,
        _BLOCKED,
    ),
    Hostile("H parent's end", tries("os", "not os.kill(os.getppid(), 9)"), 1, _BLOCKED),
    Hostile(
        "H everybody's end",
        tries("os", "not os.kill(-1, 0)"),
        1,
        _BLOCKED,
    ),
    Hostile(
        "H owner of a signal",
        tries("os, fcntl", "not fcntl.fcntl(0, fcntl.F_SETOWN, os.getppid())"),
        1,
        _BLOCKED,
    ),
    Hostile("H link", tries("os", "not os.symlink('/etc', 'link')"), 1, _BLOCKED),
    Hostile("H hard link", tries("os", "not os.link('/etc/passwd', 'x')"), 1, _BLOCKED),
    Hostile("H home", tries("os", "os.listdir(os.path.expanduser('~'))"), 1, TRAINS),
    Hostile("H passwords", tries("os", "open('/etc/passwd').read()"), 1, TRAINS),
    Hostile("H root", tries("os", "os.listdir('/')"), 1, TRAINS),
    Hostile("H shared memory", tries("os", "open('/dev/shm/x', 'w')"), 1, TRAINS),
    Hostile("H our code", tries("guerdon", "open(guerdon.__file__, 'a')"), 1, TRAINS),
    Hostile("H large file", _DISK, 1, "trains|SIGXFSZ"),
    Hostile("H many files", _FILES, 1, TRAINS),
    Hostile("H threads", _THREADS, 1, "trains|Error|memory|SIG"),
    Hostile("H memory file", tries("os", "os.memfd_create('x')"), 1, _BLOCKED),
    Hostile("H rights", tries("os", "not os.chmod('.', 0o777)"), 1, _BLOCKED),
    Hostile(
        "H limits",
        tries("resource", "not resource.setrlimit(resource.RLIMIT_AS, (-1, -1))"),
        1,
        _BLOCKED,
    ),
    Hostile("H new code", tries("mmap", "mmap.mmap(-1, 4096, prot=7)"), 1, _BLOCKED),
    Hostile(
        "H library", tries("ctypes", "ctypes.CDLL('libresolv.so.2')"), 1, "trains|."
    ),
    Hostile(
        "H segfault", top("import ctypes", "ctypes.string_at(0)"), 1, "SIGSEGV|SIGABRT"
    ),
    Hostile("H abort", top("import os", "os.abort()"), 1, "SIGABRT|SIGSYS"),
    Hostile("H quiet end", top("import os", "os._exit(0)"), 1, "without an answer"),
    Hostile(
        "H end",
        top("import sys", "sys.exit(0)"),
        1,
        "exit code|without an answer|ends the",
    ),
    Hostile(
        "H deaf to SIGTERM",
        top(
            "import signal, time",
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
            "while True: time.sleep(9)",
        ),
        1,
        "timed_out",
    ),
    Hostile(
        "H thread that stays",
        top(
            "import threading",
            "threading.Thread(target=threading.Event().wait).start()",
        ),
        1,
        "trains|Error",
    ),
    Hostile("H flood", top("import sys", "print('x' * (1 << 26))"), 1, TRAINS),
    Hostile("H terminal", _RELAY, 1, "exit code"),
    Hostile("H forged answer", forged("[text, b'weights']"), 1, "no safetensors"),
    Hostile("H forged parts", forged("[b''] * 9999"), 1, "jail"),
    Hostile("H the environment's score", _TAMPER, 1, TRAINS),
    Hostile("H clock", top("import time", "time.perf_counter = lambda: 1e300"), 1, "."),
    Hostile("H claimed curve", _CLAIMED_CURVE, 1, TRAINS),
    Hostile("H claimed names", _CLAIMED_NAMES, 1, "proper name"),
    Hostile(
        "H nested claims",
        patched("write_claims", "lambda found: b'[' * 100_000"),
        1,
        "claims that cannot be read",
    ),
    Hostile("H weights not finite", weights("tensor * torch.nan"), 2, "is not finite"),
    Hostile("H other shapes", weights("torch.zeros(7, 7)"), 2, "unexpected tensor"),
    Hostile(
        "H pickled weights",
        patched("policy_bytes", r"lambda *a: b'\x80\x04cposix\nsystem\n'"),
        1,
        "no safetensors",
    ),
    Hostile(
        "H hostile header",
        patched("policy_bytes", "lambda *a: (1 << 62).to_bytes(8, 'little') + b'{}'"),
        1,
        "no safetensors",
    ),
    Hostile(
        "H large weights",
        patched("policy_bytes", "lambda *a: bytes(40 << 20)"),
        1,
        "expected at most",
    ),
    Hostile(
        "H larger answer",
        patched("policy_bytes", "lambda *a: bytes(70 << 20)"),
        1,
        "jail",
    ),
]
