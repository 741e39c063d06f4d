"""Arithmetic from text, without `eval`: numbers, operators and a few functions, all of bounded size."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable

Number = int | float

LENGTH = 200
BITS = 4096
"""Integers may not grow larger; about 1,200 digits."""
DIGITS = 15

OPERATORS: dict[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


class CannotCalculate(ValueError):
    """The text is no arithmetic, or its result is too large; the message can be shown."""


def _rounded(number: Number, digits: Number | None = None) -> Number:
    if digits is None:
        return round(number)
    if not isinstance(digits, int) or abs(digits) > DIGITS:
        raise CannotCalculate(f"I round to whole numbers, or to {DIGITS} digits at most.")
    return round(number, digits)


FUNCTIONS: dict[str, Callable[..., Number]] = {
    "abs": abs,
    "max": max,
    "min": min,
    "round": _rounded,
    "sqrt": math.sqrt,
}
CONSTANTS: dict[str, Number] = {"pi": math.pi, "e": math.e}


def calculate(expression: str) -> Number:
    """The value of `expression`; `^` is a power. Raises `CannotCalculate`."""
    if len(expression) > LENGTH:
        raise CannotCalculate(f"That is more than {LENGTH} characters long.")
    try:
        return _value(ast.parse(expression.strip().replace("^", "**"), mode="eval").body)
    except ZeroDivisionError:
        raise CannotCalculate("That divides by zero.") from None
    except OverflowError:
        raise CannotCalculate("The result is too large.") from None
    except (SyntaxError, MemoryError, RecursionError):  # the parser's own words for too deep a nesting
        raise CannotCalculate("That is no arithmetic.") from None


def shown(number: Number) -> str:
    """A number as a person writes it: 0.3, not 0.30000000000000004."""
    return str(number) if isinstance(number, int) else f"{number:.12g}"


def _value(node: ast.expr) -> Number:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return _bounded(number)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand)
        case ast.BinOp(op=ast.Pow(), left=left, right=right):
            return _power(_value(left), _value(right))
        case ast.BinOp(op=op, left=left, right=right) if type(op) in OPERATORS:
            return _bounded(OPERATORS[type(op)](_value(left), _value(right)))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in FUNCTIONS:
            return _called(name, [_value(arg) for arg in args])
        case ast.Name(id=name) if name in CONSTANTS:
            return CONSTANTS[name]
    raise CannotCalculate("I know numbers, + - * / // % **, and " + ", ".join([*FUNCTIONS, *CONSTANTS]) + ".")


def _power(base: Number, exponent: Number) -> Number:
    """Checked before it is computed: the size of a power is known from its parts."""
    if isinstance(base, int) and isinstance(exponent, int) and abs(exponent) * base.bit_length() > BITS:
        raise CannotCalculate("The result is too large.")
    result = base**exponent
    if isinstance(result, complex):
        raise CannotCalculate("The result is not a real number.")
    return _bounded(result)


def _called(name: str, numbers: list[Number]) -> Number:
    try:
        return _bounded(FUNCTIONS[name](*numbers))
    except CannotCalculate:
        raise
    except (TypeError, ValueError):
        raise CannotCalculate(f"`{name}` cannot take that.") from None


def _bounded(number: Number) -> Number:
    if isinstance(number, int) and number.bit_length() > BITS:
        raise CannotCalculate("The result is too large.")
    if isinstance(number, float) and not math.isfinite(number):
        raise CannotCalculate("The result is too large.")
    return number
