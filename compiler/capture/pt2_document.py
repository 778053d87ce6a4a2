"""The JSON documents inside a ``.pt2``: what may stand in each field, checked with PyTorch not yet reading them.

``torch.export.load`` trusts these documents. It hands shape expressions and hints to ``sympy.sympify``, which
evaluates Python; it resolves operator names by attribute look-up from the ``torch`` module, which reaches ``os``; it
puts names into generated source; structures may name modules to import. Here every field of the schema
(``torch/_export/serde/schema.py``, major version 8) has a check, and fields that are not in the table are left out.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from fxc.compiler.errors import ArtifactError
from fxc.compiler.serialize_names import FUNCTIONS, NAMESPACES, operator_of

OPERATOR_NAMESPACES = NAMESPACES | {"prims", "quantized_decomposed", "torchvision"}

_HIGHER_ORDER = frozenset({"cond", "wrap_with_autocast", "wrap_with_set_grad_enabled"})
_SYMBOL = re.compile(r"(s|u|zf|zuf|ps)\d{1,9}", re.ASCII)
_NAME = re.compile(r"[A-Za-z_]\w{0,511}", re.ASCII)
_FQN = re.compile(r"[\w.@/:<>\[\]+ -]{0,1023}")
_CONTAINERS = frozenset({"builtins.list", "builtins.tuple", "builtins.dict", "collections.OrderedDict"})
_METADATA = ("nn_module_stack", "stack_trace", "torch_fn")
_ASSUMPTIONS = frozenset({"integer", "positive", "nonnegative", "negative", "nonzero", "zero", "real"})
_EXPRESSION_FUNCTIONS = frozenset(
    {"Add", "Mul", "FloorDiv", "Mod", "PythonMod", "CleanDiv", "CeilDiv", "Max", "Min"}
)
_DEPTH = 60
_EXPRESSION_LENGTH = 4096

Check = Callable[[Any], bool]


def safe_expression(text: Any) -> bool:
    """Whether a shape expression holds only integers, symbols, ``+ - * //`` and parentheses.

    Both spellings that PyTorch writes are read: ``2*s77`` and ``Mul(Integer(2), Symbol('s77', integer=True))``, whose
    functions are a closed set without effects. Powers are small constants, so that no expression runs long.
    """
    if not isinstance(text, str) or len(text) > _EXPRESSION_LENGTH:
        return False
    try:
        return _safe_node(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _safe_node(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return _small(node, -(1 << 63), 1 << 63)
    if isinstance(node, ast.Name):
        return _SYMBOL.fullmatch(node.id) is not None
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, (ast.USub, ast.UAdd)) and _safe_node(node.operand)
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and _safe_call(node.func.id, node)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        return isinstance(node.left, ast.Name) and _safe_node(node.left) and _small(node.right, 1, 5)
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub, ast.Mult, ast.FloorDiv)):
        return _safe_node(node.left) and _safe_node(node.right)
    return False


def _safe_call(name: str, node: ast.Call) -> bool:
    args = node.args
    if name == "Symbol":
        assumptions = all(k.arg in _ASSUMPTIONS and _is_flag(k.value) for k in node.keywords)
        return assumptions and len(args) == 1 and _is_symbol_name(args[0])
    if node.keywords:
        return False
    if name == "Integer":
        return len(args) == 1 and isinstance(args[0], (ast.Constant, ast.UnaryOp)) and _safe_node(args[0])
    if name == "Pow":
        return len(args) == 2 and _safe_symbol(args[0]) and _safe_exponent(args[1])
    return name in _EXPRESSION_FUNCTIONS and all(_safe_node(arg) for arg in args)


def _is_symbol_name(node: ast.expr) -> bool:
    text = node.value if isinstance(node, ast.Constant) else None
    return isinstance(text, str) and _SYMBOL.fullmatch(text) is not None


def _safe_symbol(node: ast.expr) -> bool:
    named = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Symbol"
    return named and _safe_node(node)


def _safe_exponent(node: ast.expr) -> bool:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Integer":
        return len(node.args) == 1 and not node.keywords and _small(node.args[0], 1, 5)
    return False


def _small(node: ast.expr, low: int, high: int) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is int and low <= node.value < high


def _is_flag(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, bool)


def safe_operator(text: Any) -> bool:
    """Whether an operator's text names a tensor operator, or a function on sizes, that may come from a file."""
    if not isinstance(text, str):
        return False
    if text.startswith("torch.ops.higher_order."):
        return text.removeprefix("torch.ops.higher_order.") in _HIGHER_ORDER
    if not text.startswith("torch.ops."):
        return re.sub(r"^_operator\.", "operator.", text) in FUNCTIONS
    try:
        operator_of(text.removeprefix("torch.ops."), OPERATOR_NAMESPACES)
    except ArtifactError:
        return False
    return True


def safe_structure(text: Any) -> bool:
    """Whether a serialized tree structure holds only lists, tuples and dicts with plain keys."""
    try:
        version, tree = json.loads(text)
        return version == 1 and _safe_tree(tree, 0)
    except (ValueError, TypeError, KeyError, RecursionError):
        return False


def _safe_tree(tree: Mapping[str, Any], depth: int) -> bool:
    children = tree["children_spec"]
    if tree["type"] is None:
        return tree["context"] is None and not children
    keys = json.loads(tree["context"])
    plain = keys is None or (isinstance(keys, list) and all(isinstance(k, (str, int)) for k in keys))
    fits = tree["type"] in _CONTAINERS and plain and depth < _DEPTH
    return fits and all(_safe_tree(child, depth + 1) for child in children)


def _is_int(value: Any) -> bool:
    return type(value) is int


def _is_optional_int(value: Any) -> bool:
    return value is None or type(value) is int


def _is_float(value: Any) -> bool:
    return type(value) in (int, float) or value in ("Infinity", "-Infinity", "NaN")


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_optional_bool(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_name(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, str) and _NAME.fullmatch(value) is not None)


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and _FQN.fullmatch(value) is not None


def _listed(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(check(item) for item in value)


def _optional(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _nothing(value: Any) -> bool:
    return not value


_FIELDS: Mapping[str, Check] = MappingProxyType(
    {
        **dict.fromkeys(("as_int", "dtype", "layout", "major", "minor"), _is_int),
        **dict.fromkeys(("as_scalar_type", "as_memory_format", "as_layout"), _is_int),
        **dict.fromkeys(("min_val", "max_val", "index", "kind"), _is_optional_int),
        **dict.fromkeys(("as_float", "real", "imag"), _is_float),
        **dict.fromkeys(("as_bool", "as_none", "requires_grad", "persistent", "is_param"), _is_bool),
        **dict.fromkeys(("is_single_tensor_return", "is_hop_single_tensor_return"), _is_optional_bool),
        "as_ints": _listed(_is_int),
        "as_int_lists": _listed(_listed(_is_int)),
        "as_floats": _listed(_is_float),
        "as_float_lists": _listed(_listed(_is_float)),
        "as_bools": _listed(_is_bool),
        **dict.fromkeys(("as_string", "torch_version"), _is_text),
        **dict.fromkeys(("as_strings", "verifiers"), _listed(_is_text)),
        **dict.fromkeys(("name", "as_name", "type", "user_input_name"), _is_name),
        **dict.fromkeys(("forward_arg_names", "field_names"), _optional(_listed(_is_name))),
        **dict.fromkeys(("parameter_name", "buffer_name", "tensor_constant_name", "fqn"), _is_path),
        "path_name": lambda value: (
            isinstance(value, str) and re.fullmatch(r"(weight|tensor)_\d+", value) is not None
        ),
        **dict.fromkeys(("target", "as_operator"), safe_operator),
        **dict.fromkeys(("in_spec", "out_spec"), safe_structure),
        "expr_str": safe_expression,
        "use_pickle": lambda value: value is False,
        # Objects of the exporter's own classes: they can only be unpickled.
        **dict.fromkeys(("custom_obj_values", "as_custom_obj", "custom_obj", "class_fqn"), _nothing),
    }
)
"""The check of every field that holds a value."""

_BRANCHES = frozenset(
    {
        "graph_module", "schema_version", "graph", "signature", "module_call_graph", "inputs", "outputs",
        "nodes", "arg", "as_expr", "hint", "sizes", "device", "strides", "storage_offset", "as_tensor",
        "as_tensors", "as_sym_int", "as_sym_ints", "as_device", "as_sym_bool", "as_sym_bools", "as_graph",
        "as_optional_tensors", "as_sym_float", "as_sym_floats", "as_optional_tensor", "as_complex",
        "as_nested_tensors", "input_specs", "output_specs", "user_input", "user_output", "loss_output",
        "parameter", "buffer", "tensor_constant", "token", "constant_input", "value", "buffer_mutation",
        "parameter_mutation", "gradient_to_parameter", "gradient_to_user_input", "user_input_mutation",
        "tensor_meta",
    }
)  # fmt: skip
"""Fields that hold further objects or lists of them."""

_TABLES = MappingProxyType(
    {
        **dict.fromkeys(("tensor_values", "sym_int_values", "sym_bool_values", "sym_float_values"), _is_name),
        "range_constraints": safe_expression,
        "as_string_to_argument": _is_text,
        "treespec_namedtuple_fields": _is_path,
        "config": _is_path,
        "opset_version": _is_path,
    }
)
"""Fields that hold an object with free keys, and the check of a key."""


def cleaned(value: Any, findings: list[str], place: str = "", depth: int = 0) -> Any:
    """A copy of a parsed document with only known fields; what must not be there is added to ``findings``.

    Guards written as source and free-form metadata are left out: fxc checks inputs itself and needs neither.
    """
    if depth > _DEPTH:
        findings.append(f"{place}: nested too deeply")
        return None
    if isinstance(value, list):
        return [cleaned(item, findings, f"{place}[{i}]", depth + 1) for i, item in enumerate(value)]
    if not isinstance(value, dict):
        if value is not None and type(value) is not int:
            findings.append(f"{place}: {_short(value)} where an object belongs")
        return value
    kept: dict[str, Any] = {}
    for key, item in value.items():
        _clean_field(kept, key, item, findings, f"{place}.{key}" if place else key, depth)
    return kept


def _clean_field(
    kept: dict[str, Any], key: str, item: Any, findings: list[str], place: str, depth: int
) -> None:
    if key in _FIELDS:
        if not _FIELDS[key](item):
            findings.append(f"{place}: {_short(item)} is not allowed")
        kept[key] = item
    elif key in _BRANCHES:
        kept[key] = cleaned(item, findings, place, depth + 1)
    elif key in _TABLES and isinstance(item, dict):
        findings += [f"{place}: the key {_short(k)} is not allowed" for k in item if not _TABLES[key](k)]
        kept[key] = {k: cleaned(v, findings, f"{place}.{k}", depth + 1) for k, v in item.items()}
    elif key == "metadata" and isinstance(item, dict):
        kept[key] = {k: v for k, v in item.items() if k in _METADATA and isinstance(v, str)}
    elif key == "guards_code":
        kept[key] = []


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
