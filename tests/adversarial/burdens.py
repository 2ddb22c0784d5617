"""Categories D to G: too much work, too much memory, texts that break parsers, and
answers that are no rewards.
"""

from __future__ import annotations

from tests.adversarial.hostile import (
    CONSTANT,
    HEAD,
    NUMBERS,
    RUNS,
    TAIL,
    TRAINS,
    Hostile,
    body,
    top,
    value,
)


def _keys(letter: str, count: int) -> str:
    return ", ".join(f'"{letter}{i}": 1' for i in range(count))


D = [
    Hostile("D while", body("while True: pass"), 2, "timed_out"),
    Hostile(
        "D nested ranges",
        body(
            *[f"{'    ' * i}for x{i} in range(10**6):" for i in range(4)],
            " " * 16 + "1",
        ),
        2,
    ),
    Hostile(
        "D comprehension",
        value("sum([x for x in range(10**9) for y in range(10**9)])"),
        2,
    ),
    Hostile("D power tower", value("now.pole_angle * 10**10**8"), RUNS),
    Hostile(
        "D power of variables",
        body("b = 9e8", *["b = b ** b"] * 20, "x = b * now.upright"),
        12,
    ),
    Hostile("D shift", value("1 << (1 << 33)"), 2),
    Hostile("D squares of a length", body("n = len('ab')", *["n = n * n"] * 30), 2),
    Hostile("D squares of an int", body("n = int(1e300)", *["n = n * n"] * 22), 2),
    Hostile("D round", value("round(5, -999999)"), 2),
    Hostile("D tuples", body("a = (1, 2)", *["a = (a, a)"] * 30, "x = a == a"), 3),
    Hostile("D diff", value("np.diff(now.pole_angle, 999999)"), 2, "line 2|."),
    Hostile("D endless iterator", value("sum(iter(int, 1))"), 2),
    Hostile(
        "D itertools", top("import itertools", "sum(itertools.count())"), 1, "timed_out"
    ),
    Hostile(
        "D regular expression", top("import re", "re.match('(a+)+$', 'a' * 40)"), 1
    ),
    Hostile(
        "D recursion",
        HEAD + '    return {"a": reward(prev, action, now, params)["a"]}\n',
        2,
        "RecursionError",
    ),
    Hostile("D sleep", top("import time", "time.sleep(100)"), 1),
    Hostile(
        "D squared object array",
        value("np.array([3] * 9, 'O') ** 10**9"),
        2,
    ),
    Hostile(
        "D unrolled loops",
        body(
            f"v = [{', '.join(['1.0'] * 60)}]",
            *["x = 0.0", "for a in v:", "    for b in v:", "        for c in v:"],
            "            x += a * b * c",
        ),
        7,
    ),
    Hostile(
        "D doubled tree",
        body("a = now.pole_angle", *["a = a * a + a"] * 200, "b = a == a"),
        9,
    ),
    Hostile(
        "D wide maxima",
        body("m = now.pole_angle", *["m = max(m, m, m, m, m, m)"] * 100),
        6,
    ),
    Hostile(
        "D elif ladder",
        body(
            "x = 1.0", "if now.upright: x = 2.0", *["elif now.upright: x = 2.0"] * 400
        ),
        63,
    ),
    Hostile(
        "D large tree",
        body("a = now.pole_angle", *["a = a * a + a"] * 5).replace(
            "now.pole_angle}", "a * 1.75}"
        ),
        RUNS,
    ),
    Hostile(
        "D layers of sines",
        body(
            f"v = [{', '.join(f'now.pole_angle * {i}.5' for i in range(64))}]"
        ).replace(TAIL, "    v = sin(v)\n" * 40)
        + '    return {"a": sum(v)}\n',
        43,
    ),
    Hostile("D chained comparison", value("0 < now.pole_angle" + " < 1" * 3000), 2),
]

E = [
    Hostile(
        "E list", value("sum([0] * 10**10)"), CONSTANT, "MemoryError|killed|memory"
    ),
    Hostile("E text", body("s = 'a' * 10**9", *["s = s + s"] * 5), 2),
    Hostile("E doubled list", body("v = [1.0, 2.0]", *["v = v + v"] * 40), 11),
    Hostile("E joined list", body("v = [1.0]", *["v = [*v, *v]"] * 40), 3),
    Hostile("E zeros", value("np.zeros((10**6, 10**6))"), 2, "MemoryError|memory"),
    Hostile("E broadcast", value("now.pole_angle[:, None][..., None]"), 2),
    Hostile("E percent", value("'%999999999d' % 1"), 2),
    Hostile("E bytearray", value("bytearray(20 * 2**30)"), 2, "MemoryError|memory"),
    Hostile("E long vector", value(f"sum([{'1.0, ' * 65}])"), 2),
    Hostile("E many params", f"PARAMS = {{{_keys('p', 60)}}}\n" + HEAD + TAIL, 1),
    Hostile("E many terms", f"{HEAD}    return {{{_keys('t', 900)}}}\n", 2),
    Hostile(
        "E many names",
        body(*[f"x{i} = now.pole_angle + {i}" for i in range(400)]),
        RUNS,
    ),
    Hostile("E long name", value("now." + "x" * 9000), 2),
    Hostile("E set of ranges", value("{*range(10**9)}"), 2),
    Hostile("E repeat", value("np.repeat(now.pole_angle, 10**12)"), 2),
]

F = [
    Hostile("F brackets", value("(" * 300 + "1" + ")" * 300), 2),
    Hostile("F square brackets", value("[" * 3000 + "]" * 3000), 2),
    Hostile("F minus signs", value("-" * 3000 + "now.pole_angle"), 2),
    Hostile("F spaced minus signs", value("- " * 3000 + "now.pole_angle"), 2),
    Hostile("F not", value("not " * 2000 + "now.upright"), 2),
    Hostile("F long line", value("now.pole_angle + " * 9000 + "1"), 2),
    Hostile("F bracket line", value("(" * 60_000), 2),
    Hostile("F long text", body(*["x = 1.0"] * 9000), 1364),
    Hostile("F choices", value("1 if now.upright else " * 400 + "1"), 2),
    Hostile("F ands", value("now.upright and " * 900 + "now.upright"), 2),
    Hostile("F sums", value("now.pole_angle + " * 900 + "1"), 2),
    Hostile("F NUL", value("now.pole_angle\0"), 2),
    Hostile("F surrogate", value("now.pole_angle  # \udc80"), 2),
    Hostile("F form feed", "\f" + value("now.pole_angle * 2.5"), RUNS),
    Hostile("F byte order mark inside", value("now.\ufeffpole_angle"), 2),
    Hostile("F huge whole number", value("9" * 9000), 2),
    Hostile("F huge number", value("1e999 * now.pole_angle"), 2),
    Hostile("F hidden line", "#\rimport os\r" + value("now.pole_angle"), 2),
    Hostile(
        "F encoding", "# -*- coding: utf-7 -*-\n" + value("+AC8-now.pole_angle"), 3
    ),
    Hostile(
        "F declared encoding",
        "# -*- coding: rot13 -*-\n" + value("now.pole_angle * 1.25"),
        RUNS,
    ),
    Hostile("F attribute chain", value("now" + ".x" * 7000), 2),
    Hostile("F calls of calls", value("exp" + "()" * 4000), 2),
    Hostile("F nested lambdas", value("lambda: " * 900 + "1"), 2),
    Hostile("F nested f-strings", value("f'{f\"{1}\"}'"), 2),
    Hostile("F brackets in a text", value("'#'" + "(" * 300), 2),
    Hostile("F line continuation", value("now.pole_angle + \\\n" * 800 + "1"), 2),
    Hostile("F tabs", f"{HEAD}    y = 1\n\treturn {{'x': y}}\n", 3),
    Hostile("F open bracket", HEAD + "    return {'a': (now.pole_angle\n", 2),
    Hostile("F params twice", 'PARAMS = {"w": 1,\n "w": 2}\n' + HEAD + TAIL, 2),
    Hostile("F reward twice", HEAD + TAIL + HEAD + TAIL, 3),
    Hostile("F shadowed function", body("exp = now.pole_angle"), 2),
    Hostile(
        "F shadowed builtin", body("range = now.pole_angle * 3.5", "m_exp = 1"), RUNS
    ),
    Hostile(
        "F names of ours", body("t1 = 1.0", "w = 2.0", "s = 3.0", "out = 4.0"), RUNS
    ),
    Hostile(
        "F reordered letters",
        value("now.pole_angle * 4.5,  # \u202e ;)'so'(metsys \u2066\n"),
        RUNS,
    ),
    Hostile("F invisible letter", value("now.pole\u200b_angle"), 2),
    Hostile("F Cyrillic letter", value("now.p\u043ele_angle"), 2),
    Hostile("F star import", top("from math import *"), 1),
    Hostile("F relative import", top("from . import exp"), 1),
    Hostile("F empty", "", 1),
    Hostile("F only a comment", "# def reward(prev, action, now, params):\n", 1),
]

G = [
    Hostile("G 0 / 0", value("0.0 / 0.0 * now.pole_angle"), CONSTANT),
    Hostile("G 1 / 0", value("1 / 0"), CONSTANT),
    Hostile("G division by a feature", value("1.0 / (now.upright - 1.0)"), RUNS),
    Hostile("G infinity", value("1e308 * 10 * now.pole_angle"), 2),
    Hostile("G text", value("'10'"), 2, TRAINS),
    Hostile("G array", value("[now.pole_angle, now.upright]"), 2, "shape|numbers"),
    Hostile("G generator", value("(x for x in [1.0])"), 2, NUMBERS),
    Hostile("G complex", value("1j * now.pole_angle"), 2),
    Hostile("G complex root", value("(now.pole_angle - 9.0) ** 0.5"), RUNS),
    Hostile("G flag", value("now.upright"), RUNS),
    Hostile("G None", value("None"), 2, "."),
    Hostile(
        "G spikes",
        value("1e9 * 1e9 * (1.0 if now.pole_angle > 0.0 else -1.0)"),
        RUNS,
    ),
    Hostile("G towers", value("exp(exp(exp(exp(1e9 * now.cart_velocity))))"), RUNS),
    Hostile("G huge product", value(" * ".join(["1e9"] * 30 + ["now.upright"])), RUNS),
    Hostile("G log of nothing", value("log(-1e9 * now.distance_from_centre)"), RUNS),
    Hostile("G square root", value("sqrt(-now.distance_from_centre - 1.0)"), RUNS),
    Hostile("G wild power", value("(1e9 * now.pole_angle) ** 1e9"), RUNS),
    Hostile("G nan by name", value("float('nan')"), 2, "non_finite|."),
    Hostile("G nan of numpy", value("np.nan * now.pole_angle"), 2, "non_finite"),
    Hostile("G number", HEAD + "    return 1e9 * now.pole_angle\n", RUNS, "dictionary"),
    Hostile("G two values", HEAD + '    return 1, {"a": 2.5 * now.upright}\n', RUNS),
    Hostile("G nothing", HEAD + "    return\n", 2, "dictionary"),
    Hostile("G no return", HEAD + "    x = now.pole_angle\n", 2),
    Hostile("G two returns", body("return 1.0"), 2),
    Hostile("G empty dictionary", HEAD + "    return {}\n", 2, "1 to 64 terms"),
    Hostile("G nested", value("{'b': now.pole_angle}"), 2),
    Hostile("G key", HEAD + "    return {1: now.pole_angle}\n", 2, "identifiers"),
    Hostile("G unpacked", HEAD + "    return {**params.__dict__}\n", 2),
    Hostile(
        "G markup", HEAD + '    return {"<script>alert(1)</script>": 1.0}\n', 2, "ident"
    ),
    Hostile(
        "G formula", HEAD + '    return {"=cmd()": now.upright}\n', 2, "identifiers"
    ),
    Hostile("G colours", HEAD + '    return {"\\x1b[31m": now.upright}\n', 2, "ident"),
    Hostile("G same key", HEAD + '    return {"a": 1.0, "a": now.upright}\n', 2),
    Hostile(
        "G registers",
        body("d = delta(1e9 * previous_best(1e9 * now.pole_angle))").replace(
            "now.pole_angle}", "d * count(now.upright)}"
        ),
        RUNS,
    ),
]
