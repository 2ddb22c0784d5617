"""The reward language: what a language model, an operator or a person writes."""

from guerdon.reward_design.language.codegen import Compiled, compile_tree
from guerdon.reward_design.language.parse import parse
from guerdon.reward_design.language.terms import terms
from guerdon.reward_design.language.tree import Expr, Rejected, Tree, to_source

__all__ = [
    "Compiled",
    "Expr",
    "Rejected",
    "Tree",
    "compile_tree",
    "parse",
    "terms",
    "to_source",
]
