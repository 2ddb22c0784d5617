"""Categories A, B and C: ways out of the language, through its objects and libraries,
and into what only the task may say.
"""

from __future__ import annotations

from tests.adversarial.hostile import (
    CANARY,
    HEAD,
    MISSING,
    NUMBERS,
    RUNS,
    TAIL,
    TOUCH,
    TRAINS,
    Hostile,
    body,
    top,
    value,
)

A = [
    Hostile("A subclasses", value("().__class__.__bases__[0].__subclasses__()"), 2),
    Hostile("A getattr", value("getattr(now, '__cl' + 'ass__')"), 2, NUMBERS),
    Hostile(
        "A format", value("'{0.__class__.__init__.__globals__}'.format(now)"), 2, "."
    ),
    Hostile("A f-string", value("f'{now.__class__.__init__.__globals__}'"), 2),
    Hostile(
        "A generator frame",
        body("g = (g.gi_frame.f_back.f_back for _ in [1])", "x = [*g][0]"),
        2,
        TRAINS,
    ),
    Hostile(
        "A traceback frame",
        body(
            "try:",
            "    1 / 0",
            "except Exception as e:",
            "    e.__traceback__.tb_frame.f_back.f_globals['np'].nothing",
        ),
        2,
        "line 5",
    ),
    Hostile(
        "A error's object",
        body("try: now.nothing", "except AttributeError as e: e.obj.pole_angle = 1"),
        2,
    ),
    Hostile(
        "A except star", body("try: pass", "except* Exception as e: e.exceptions"), 2
    ),
    Hostile("A builtins", body("b = __builtins__", "b['open']('escaped', 'w')"), 2),
    Hostile(
        "A import function",
        value(f"__import__('os').system({TOUCH!r})"),
        2,
        "SIGSYS",
    ),
    Hostile("A import", top("import os", f"os.system({TOUCH!r})"), 1, "SIGSYS"),
    Hostile("A import as", top("from os import system as exp", f"exp({TOUCH!r})"), 1),
    Hostile("A compatibility letters", value("now.__𝒸𝓁𝒶𝓈𝓈__"), 2, NUMBERS),
    Hostile("A mro", body("class B: pass", "B.mro()[1].__subclasses__()"), 2),
    Hostile(
        "A match",
        body("match now:", "    case object(__class__=c): c.__init__.__globals__"),
        2,
    ),
    Hostile("A decorator", f"@print\n{HEAD}{TAIL}", 2),
    Hostile(
        "A default argument",
        "def reward(prev, action, now, params=open('escaped', 'w')):\n" + TAIL,
        1,
        "PermissionError",
    ),
    Hostile(
        "A star arguments",
        "def reward(prev, action, now, params, *args, **kwargs):\n" + TAIL,
        1,
        TRAINS,
    ),
    Hostile(
        "A annotation",
        "def reward(prev: open('escaped', 'w'), action, now, params):\n"
        '    return {"a": 7.0 * now.pole_angle}\n',
        RUNS,
        TRAINS,
    ),
    Hostile(
        "A return annotation",
        "def reward(prev, action, now, params) -> exec('import os'):\n"
        '    return {"a": 7.1 * now.pole_angle}\n',
        RUNS,
    ),
    Hostile("A lambda", value("(lambda: (y := now).__class__)()"), 2),
    Hostile("A key function", value("min([1.0], key=print)"), 2, TRAINS),
    Hostile("A star call", value("print(*[now.pole_angle])"), 2),
    Hostile(
        "A formatter",
        top("import string", "string.Formatter().get_field('0.__class__', [1], {})"),
        1,
    ),
    Hostile("A SystemExit", body("raise SystemExit"), 2, "exit code|without an answer"),
    Hostile("A module's loader", value("math.__loader__.load_module('os')"), 2),
    Hostile("A dict of a feature", value("now['__dict__']"), 2, "line 2: TypeError"),
    Hostile("A class of params", value("params.__class__"), 2, NUMBERS),
    Hostile("A name of a term", f'{HEAD}    return {{"__class__": now.upright}}\n', 2),
    Hostile("A name of a param", 'PARAMS = {"__init__": 1}\n' + HEAD + TAIL, 1),
    Hostile("A eval", value(f'eval(\'__import__("os").system("{TOUCH}")\')'), 2),
    Hostile("A exec in params", f"PARAMS = exec('import os')\n{HEAD}{TAIL}", 1),
    Hostile("A yield", body("yield now", f"x = 1  # {CANARY}"), 2),
    Hostile("A await", body("await now"), 2, "SyntaxError"),
    Hostile("A async", "async " + HEAD + TAIL, 1),
    Hostile("A nested function", body("def f(): return f.__globals__", "f()"), 2),
    Hostile("A alias of eval", body("abs = eval", "x = abs('1')"), 2),
    Hostile(
        "A with", body("with open('escaped', 'w') as f: f.write('x')"), 2, "line 2"
    ),
]

B = [
    Hostile(
        "B pickle",
        body(
            "np.array([128, 4, 46], 'uint8').tofile('escaped')",
            "np.load('escaped', allow_pickle=True)",
        ),
        2,
        "line 2",
    ),
    Hostile("B fromfile", value("np.fromfile('/etc/passwd', 'uint8')"), 2, "line 2"),
    Hostile("B memmap", value("np.memmap('/etc/passwd', 'uint8', 'r')"), 2, "line 2"),
    Hostile("B genfromtxt", value("np.genfromtxt('/etc/passwd')"), 2, "line 2"),
    Hostile("B savetxt", body("np.savetxt('escaped', [1])"), 2, "line 2"),
    Hostile(
        "B ctypeslib",
        value(f"np.ctypeslib.ctypes.CDLL(None).system(b{TOUCH!r})"),
        2,
        "SIGSYS|Failed|non_finite|line 2",
    ),
    Hostile("B npyio", value("np.lib._npyio_impl.os.environ"), 2, NUMBERS),
    Hostile("B f2py", top("import numpy.f2py", "numpy.f2py.compile('')"), 1),
    Hostile("B testing", value("np.testing.rundocs('escaped')"), 2),
    Hostile("B vectorize", value("np.vectorize(eval)(['1.0'])"), 2),
    Hostile("B frompyfunc", value("np.frompyfunc(print, 1, 1)(now.pole_angle)"), 2),
    Hostile(
        "B object array",
        value("np.array([now], 'O')[0].__class__.__subclasses__()"),
        2,
    ),
    Hostile("B seterrcall", body("np.seterrcall(print)"), 2, TRAINS),
    Hostile(
        "B as_strided",
        value("np.lib.stride_tricks.as_strided(now.pole_angle, (10**9,), (8,)).sum()"),
        2,
        "SIGSEGV|SIGBUS",
    ),
    Hostile("B object type", value("now.pole_angle.astype('O')"), 2, TRAINS),
    Hostile("B wide text", value("now.pole_angle.astype('U10000000')"), 2),
    Hostile("B torch.load", value("torch.load('escaped', weights_only=False)"), 2, "."),
    Hostile("B load_library", body("torch.ops.load_library('/tmp/x.so')"), 2, "line 2"),
    Hostile(
        "B cpp_extension",
        top("import torch.utils.cpp_extension as c", "c.load_inline('x', 'int x;')"),
        1,
    ),
    Hostile("B hub", body("torch.hub.load('a/b', 'c')"), 2, "line 2"),
    Hostile("B spawn", top("import torch.multiprocessing", "torch.nothing()"), 1),
    Hostile("B einsum", value("np.einsum('i,j,k,l->', *[now.pole_angle] * 4)"), 2),
    Hostile("B open_memmap", body("np.lib.format.open_memmap('escaped', 'w+')"), 2),
    Hostile("B jit", value("torch.jit.load('escaped')"), 2),
    Hostile("B threads", body("torch.set_num_threads(4096)"), 2),
    Hostile("B random state", value("np.random.get_state()[1][0]"), 2),
    Hostile("B method of a feature", value("now.pole_angle.tofile('escaped')"), 2),
    Hostile("B alias of a module", body("np = now.upright", "x = np.load('x')"), 3),
    Hostile("B import of a part", top("from numpy import load as exp"), 1),
    Hostile("B set_printoptions", body("np.set_printoptions(formatter={})"), 2),
    Hostile("B array function", value("now.__array_interface__['data'][0]"), 2),
]

C = [
    Hostile("C assign a feature", body("now.pole_angle = 0.0"), 2, TRAINS),
    Hostile("C assign an entry", body("now.pole_angle[0] = 1e9"), 2, "read-only"),
    Hostile(
        "C positional out",
        body("np.add(now.pole_angle, 1.0, now.pole_angle)"),
        2,
        "read-only",
    ),
    Hostile("C out", value("np.exp(now.pole_angle, out=now.pole_angle)"), 2),
    Hostile("C nan_to_num", value("np.nan_to_num(now.pole_angle, False)"), 2),
    Hostile("C clip out", value("clip(now.pole_angle, 5, 9, now.pole_angle)"), 2),
    Hostile("C success", body("now['success'] = 1"), 2),
    Hostile("C delete", body("del now.pole_angle"), 2),
    Hostile("C global", body("global reward", "reward = None"), 2),
    Hostile("C seed", body("np.random.seed(0)"), 2, TRAINS),
    Hostile("C attribute of itself", body("reward.count = 1"), 2, TRAINS),
    Hostile(
        "C mutable default",
        "def reward(prev, action, now, params, seen=[]):\n    seen.append(now)\n"
        + TAIL,
        1,
    ),
    Hostile(
        "C kept reference",
        top("kept = []").replace(
            TAIL, "    kept.append(now)\n    kept[0].pole_angle[:] = 0\n" + TAIL
        ),
        1,
        "read-only",
    ),
    Hostile("C swap", body("prev, now = now, prev"), 2),
    Hostile("C rename", body("now = prev"), 2),
    Hostile("C augmented", body("now.pole_angle += 1"), 2),
    Hostile("C params", body("params.w = 1e9"), 2),
    Hostile("C walrus", value("(now := prev).pole_angle"), 2),
    Hostile("C for target", body("for now in [1.0, 2.0]: pass"), 2),
    Hostile("C writeable", body("now.pole_angle.flags.writeable = True"), 2),
    Hostile("C fitness", value("now.fitness"), 2, MISSING),
    Hostile("C the environment's reward", value("env.reward"), 2, MISSING),
    Hostile(
        "C patch from outside",
        top("from guerdon.envs.task import TaskEnv", "TaskEnv._finish = None"),
        1,
    ),
]
