"""What generated code may call: three small tables of functions, one a backend.

Generated code runs with these names and no builtins. ``m_*`` work on floats (and
compile with numba), ``a_*`` on whole columns of NumPy or torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from guerdon.reward_design.language.table import (
    EXP_MAX,
    HUGE,
    LOG_MIN,
    TINY,
)

_POW_LOG_MAX = math.log(HUGE)


def power(base: float, exponent: float) -> float:
    """Real power made total; 0 where there is none, at most ``HUGE``."""
    magnitude = abs(base)
    if magnitude == 0.0:
        return 1.0 if exponent == 0.0 else 0.0
    whole = exponent % 1.0 == 0.0  # numba's floor gives an int64, which overflows
    if base < 0.0 and not whole:
        return 0.0
    if exponent * math.log(magnitude) >= _POW_LOG_MAX:
        result = HUGE
    else:
        result = magnitude**exponent
    if base < 0.0 and exponent % 2.0 != 0.0:
        return -result
    return result


SCALAR_NAMES: dict[str, Any] = {
    "m_exp": math.exp,
    "m_log": math.log,
    "m_sqrt": math.sqrt,
    "m_tanh": math.tanh,
    "m_sin": math.sin,
    "m_cos": math.cos,
    "m_pow": power,
    "abs": abs,
    "range": range,
}

SCALAR: dict[str, Callable[..., Any]] = {
    "neg": lambda x: -x,
    "abs": abs,
    "exp": lambda x: math.exp(min(x, EXP_MAX)),
    "log": lambda x: math.log(max(x, LOG_MIN)),
    "sqrt": lambda x: math.sqrt(max(x, 0.0)),
    "tanh": math.tanh,
    "sin": math.sin,
    "cos": math.cos,
    "sign": lambda x: float((x > 0) - (x < 0)),
    "number": float,
    "clamp": lambda x: min(max(x, -HUGE), HUGE),
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y if abs(y) >= TINY else 0.0,
    "quotient": lambda x, y: x / y,
    "pow": power,
    "min": lambda x, y: x if x < y else y,
    "max": lambda x, y: x if x > y else y,
    "lt": lambda x, y: x < y,
    "le": lambda x, y: x <= y,
    "gt": lambda x, y: x > y,
    "ge": lambda x, y: x >= y,
    "eq": lambda x, y: x == y,
    "ne": lambda x, y: x != y,
    "and": lambda x, y: x and y,
    "or": lambda x, y: x or y,
    "not": lambda x: not x,
    "where": lambda c, x, y: x if c else y,
}
"""The same operations as plain functions, for folding constants and as an oracle."""


# --- NumPy ----------------------------------------------------------------


def _np_div(x: Any, y: Any) -> Any:
    safe = np.abs(y) >= TINY
    return np.where(safe, x / np.where(safe, y, 1.0), 0.0)


def _np_pow(base: Any, exponent: Any) -> Any:
    base, exponent = np.broadcast_arrays(
        np.asarray(base, np.float64), np.asarray(exponent, np.float64)
    )
    magnitude = np.abs(base)
    zero = magnitude == 0.0
    magnitude = np.where(zero, 1.0, magnitude)
    large = exponent * np.log(magnitude) >= _POW_LOG_MAX
    result = np.where(large, HUGE, np.power(magnitude, np.where(large, 0.0, exponent)))
    whole = exponent == np.floor(exponent)
    odd = np.fmod(exponent, 2.0) != 0.0
    result = np.where(base < 0.0, np.where(whole, 1.0, 0.0) * result, result)
    result = np.where((base < 0.0) & odd, -result, result)
    return np.where(zero, np.where(exponent == 0.0, 1.0, 0.0), result)


def _np_number(flag: Any) -> Any:
    return np.asarray(flag).astype(np.float64)


NUMPY_NAMES: dict[str, Any] = {
    "a_exp": np.exp,
    "a_log": np.log,
    "a_sqrt": np.sqrt,
    "a_tanh": np.tanh,
    "a_sin": np.sin,
    "a_cos": np.cos,
    "a_sign": np.sign,
    "a_min": np.minimum,
    "a_max": np.maximum,
    "a_number": _np_number,
    "a_div": _np_div,
    "a_pow": _np_pow,
    "a_and": np.logical_and,
    "a_or": np.logical_or,
    "a_not": np.logical_not,
    "a_where": np.where,
    "a_spread": lambda x, like: np.broadcast_to(x, like.shape),
}


def _first_use(torch: Any) -> None:
    """Use every operator of tensors once, here, where there are builtins.

    Torch imports parts of itself when an operator is first used, with the builtins
    of the caller; generated code has none.
    """
    x = torch.ones((1, 1, 1), dtype=torch.float64)
    x[..., 0] = x[0] + 1.0 - 2.0 * x[0] / 3.0
    x[..., 0] = 1.0 + (1.0 - x[0]) * 2.0
    x[..., 0] = (1.0 / x[0]) ** 2.0 - -x[0]
    for flag in (x < 1.0, x <= 1.0, x > 1.0, x >= 1.0, x == 1.0, x != 1.0):
        x[..., 0] = flag[..., 0].double()


# --- torch ----------------------------------------------------------------


def torch_names() -> dict[str, Any]:
    """The column functions for torch; they take tensors and plain numbers."""
    from guerdon.extras import require

    torch = require("torch", "torch")
    double = torch.float64
    _first_use(torch)

    def tensor(x: Any, like: Any = None) -> Any:
        if isinstance(x, torch.Tensor):
            return x
        device = like.device if isinstance(like, torch.Tensor) else None
        kind = torch.bool if isinstance(x, bool) else double
        return torch.as_tensor(x, dtype=kind, device=device)

    def both(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        return lambda x, y: function(tensor(x, y), tensor(y, x))

    def one(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda x: function(tensor(x))

    def where(flag: Any, x: Any, y: Any) -> Any:
        flag = tensor(flag, x)
        return torch.where(flag, tensor(x, flag), tensor(y, flag))

    def div(x: Any, y: Any) -> Any:
        x, y = tensor(x, y), tensor(y, x)
        safe = y.abs() >= TINY
        return torch.where(safe, x / torch.where(safe, y, torch.ones_like(y)), 0.0)

    def pow_(base: Any, exponent: Any) -> Any:
        base, exponent = tensor(base, exponent), tensor(exponent, base)
        base, exponent = torch.broadcast_tensors(base, exponent)
        zero = base == 0.0
        magnitude = torch.where(zero, torch.ones_like(base), base.abs())
        large = exponent * magnitude.log() >= _POW_LOG_MAX
        safe = torch.where(large, torch.zeros_like(exponent), exponent)
        result = torch.where(large, HUGE, magnitude**safe)
        whole, negative = exponent == exponent.floor(), base < 0.0
        odd = torch.fmod(exponent, 2.0) != 0.0
        result = torch.where(negative & ~whole, 0.0, result)
        result = torch.where(negative & odd, -result, result)
        return torch.where(zero, (exponent == 0.0).to(double), result)

    return {
        "a_exp": one(torch.exp),
        "a_log": one(torch.log),
        "a_sqrt": one(torch.sqrt),
        "a_tanh": one(torch.tanh),
        "a_sin": one(torch.sin),
        "a_cos": one(torch.cos),
        "a_sign": one(torch.sign),
        "a_min": both(torch.minimum),
        "a_max": both(torch.maximum),
        "a_number": lambda x: tensor(x).to(double),
        "a_div": div,
        "a_pow": pow_,
        "a_and": both(torch.logical_and),
        "a_or": both(torch.logical_or),
        "a_not": one(torch.logical_not),
        "a_where": where,
        "a_spread": lambda x, like: tensor(x, like).expand(like.shape),
        "abs": lambda x: tensor(x).abs(),
    }
