"""What stands in a text, in the words of the person who wrote it.

Python's own names for its syntax (``BinOp``, ``Constant``) say nothing to somebody
who wrote ``7 % 2`` or ``"near"``; a refusal speaks of "the operator %" and "a string".
"""

from __future__ import annotations

import ast

_OPERATORS: dict[type, str] = {
    ast.Mod: "%",
    ast.FloorDiv: "//",
    ast.MatMult: "@",
    ast.LShift: "<<",
    ast.RShift: ">>",
    ast.BitOr: "|",
    ast.BitXor: "^",
    ast.BitAnd: "&",
    ast.Invert: "~",
    ast.Is: "is",
    ast.IsNot: "is not",
    ast.In: "in",
    ast.NotIn: "not in",
}

_HINTS = {
    "&": "and",
    "|": "or",
    "^": "** for a power, != for two flags that differ",
    "~": "not",
    "@": "dot(a, b)",
    "is": "==",
    "is not": "!=",
}

_CONSTANTS: dict[type, str] = {
    str: "a string",
    bytes: "a string of bytes",
    bool: "True or False",
    int: "a number",
    float: "a number",
    complex: "a complex number",
    type(None): "None",
    type(...): "'...'",
}

_NODES: dict[type, str] = {
    ast.BinOp: "this operation",
    ast.UnaryOp: "this sign",
    ast.BoolOp: "'and' or 'or'",
    ast.Compare: "a comparison",
    ast.Name: "a name",
    ast.Call: "a call",
    ast.IfExp: "'x if flag else y'",
    ast.Attribute: "a name behind a dot",
    ast.Subscript: "an entry in square brackets",
    ast.Slice: "a slice with ':'",
    ast.Starred: "a '*' before a value",
    ast.Lambda: "a lambda",
    ast.ListComp: "a list comprehension",
    ast.SetComp: "a set comprehension",
    ast.DictComp: "a dictionary comprehension",
    ast.GeneratorExp: "a generator expression",
    ast.JoinedStr: "a formatted string",
    ast.FormattedValue: "a formatted string",
    ast.List: "a list",
    ast.Tuple: "a tuple",
    ast.Set: "a set",
    ast.Dict: "a dictionary",
    ast.NamedExpr: "':='",
    ast.Await: "'await'",
    ast.Yield: "'yield'",
    ast.YieldFrom: "'yield'",
    ast.Assign: "an assignment to several names at once",
    ast.AnnAssign: "a declaration without a value",
    ast.AugAssign: "an assignment",
    ast.For: "a 'for' loop",
    ast.AsyncFor: "an 'async for' loop",
    ast.While: "a 'while' loop",
    ast.If: "'if'",
    ast.With: "'with'",
    ast.AsyncWith: "'async with'",
    ast.Match: "'match'",
    ast.Raise: "'raise'",
    ast.Try: "'try'",
    ast.TryStar: "'try'",
    ast.Assert: "'assert'",
    ast.Delete: "'del'",
    ast.Global: "'global'",
    ast.Nonlocal: "'nonlocal'",
    ast.Break: "'break'",
    ast.Continue: "'continue'",
    ast.Pass: "'pass'",
    ast.Return: "'return'",
    ast.Expr: "a value that nothing is done with",
    ast.FunctionDef: "another function",
    ast.AsyncFunctionDef: "an async function",
    ast.ClassDef: "a class",
    ast.Import: "an import inside reward()",
    ast.ImportFrom: "an import inside reward()",
}

_INSTEAD: dict[type, str] = {
    ast.While: "use 'for x in VECTOR'",
    ast.ListComp: "write the entries out, or use 'for x in VECTOR'",
    ast.GeneratorExp: "write the entries out, or use 'for x in VECTOR'",
    ast.Slice: "choose entries one by one: v[0]",
    ast.Lambda: "write the expression where it is used",
    ast.FunctionDef: "write the expression where it is used",
    ast.NamedExpr: "give the name its value on a line of its own",
    ast.Assign: "one name and one value a line",
    ast.Expr: "write 'name = value'",
    ast.Import: "drop the line: every function is known without it",
    ast.ImportFrom: "drop the line: every function is known without it",
}


def operator_words(op: ast.operator | ast.unaryop | ast.cmpop) -> str:
    """``the operator %``."""
    return f"the operator {_OPERATORS.get(type(op), 'here')}"


def words(node: ast.AST) -> str:
    """What ``node`` is: ``a string``, ``a list comprehension``, ``the operator %``."""
    if isinstance(node, ast.BinOp | ast.UnaryOp) and type(node.op) in _OPERATORS:
        return operator_words(node.op)
    if isinstance(node, ast.Constant):
        return _CONSTANTS.get(type(node.value), "this value")
    return _NODES.get(type(node), "what stands here")


def missing(node: ast.AST) -> str:
    """A sentence that says what does not exist, and what to write where we know it."""
    if isinstance(node, ast.BinOp | ast.UnaryOp):
        return no_operator(node.op)
    hint = _INSTEAD.get(type(node))
    sentence = f"{words(node)} does not exist in this language"
    return f"{sentence}; {hint}" if hint else sentence


def no_operator(op: ast.operator | ast.unaryop | ast.cmpop) -> str:
    """The same sentence for an operator."""
    hint = _HINTS.get(_OPERATORS.get(type(op), ""))
    sentence = f"{operator_words(op)} does not exist in this language"
    return f"{sentence}; write {hint}" if hint else sentence
