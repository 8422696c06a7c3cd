"""An interpreter for the few pickle instructions that PyTorch state dictionaries use.

Unpickling runs whatever the file says. This interpreter reads the instructions with
`pickletools.genops`, which only parses, and knows just those that build plain containers
and tensor descriptions. Anything else, above all any callable besides the ones listed here,
is refused; nothing is imported or called on behalf of the file.
"""

import pickletools
from collections.abc import Callable
from typing import IO, Any, NamedTuple

from etd_tf.errors import InputError


class StorageReference(NamedTuple):
    """A tensor's memory: PyTorch's storage class, its key in the file and element count."""

    kind: str
    key: str
    size: int


class TensorReference(NamedTuple):
    """A strided view of a storage; offset and strides count elements."""

    storage: StorageReference
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class _Global(NamedTuple):
    """A name that the file refers to; it is compared, never imported."""

    module: str
    name: str


_MAX_SIZE = 1 << 48  # elements; more than any disk holds
_MAX_RANK = 8
_STORAGES = frozenset(
    _Global("torch", f"{kind}Storage")
    for kind in ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte")
) | {_Global("torch", "BoolStorage")}


def _is_size(number: Any) -> bool:
    return type(number) is int and 0 <= number <= _MAX_SIZE


def _rebuild_tensor(*arguments: Any) -> TensorReference:
    storage, offset, shape, stride = arguments[:4]
    numbers = (offset, *shape, *stride)
    if not isinstance(storage, StorageReference) or len(shape) != len(stride):
        raise ValueError("malformed tensor")
    if not all(map(_is_size, numbers)) or len(shape) > _MAX_RANK:
        raise ValueError("tensor with a number that is no size")
    return TensorReference(storage, offset, tuple(shape), tuple(stride))


_CALLABLES: dict[_Global, Callable[..., Any]] = {
    _Global("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    _Global("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
    _Global("collections", "OrderedDict"): dict,
}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_LITERALS = frozenset(
    ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE")
)
_SHORT_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Machine:
    """The stack machine; `step` runs one instruction."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []  # lengths of the stack
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in _LITERALS:
            stack.append(argument)
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name in _SHORT_TUPLES:
            count = _SHORT_TUPLES[name]
            stack[-count:] = [tuple(stack[-count:])]
        elif name in _INSTRUCTIONS:
            _INSTRUCTIONS[name](self, argument)
        elif name not in ("PROTO", "FRAME"):
            raise ValueError(f"instruction {name}")

    def _pop_mark(self) -> list[Any]:
        position = self.marks.pop()
        items = self.stack[position:]
        del self.stack[position:]
        return items

    def _tuple(self, _: Any) -> None:
        items = self._pop_mark()
        self.stack.append(tuple(items))

    def _append(self, _: Any) -> None:
        item = self.stack.pop()
        self._top(list).append(item)

    def _appends(self, _: Any) -> None:
        items = self._pop_mark()
        self._top(list).extend(items)

    def _setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._update([key], [value])

    def _setitems(self, _: Any) -> None:
        items = self._pop_mark()
        self._update(items[::2], items[1::2])

    def _update(self, keys: list[Any], values: list[Any]) -> None:
        # Only these: hashing a tuple that is nested a million times deep crashes Python.
        if not all(isinstance(key, str | int) for key in keys):
            raise ValueError("key that is no text")
        self._top(dict).update(zip(keys, values, strict=True))

    def _top(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise ValueError(f"{kind.__name__} expected")
        return self.stack[-1]

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._push_global(_Global(module, name))

    def _stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise ValueError("reference by something that is no text")
        self._push_global(_Global(module, name))

    def _push_global(self, reference: _Global) -> None:
        if reference not in _CALLABLES and reference not in _STORAGES:
            raise ValueError(f"reference to {reference.module}.{reference.name}")
        self.stack.append(reference)

    def _reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        known = isinstance(function, _Global) and function in _CALLABLES
        if not known or not isinstance(arguments, tuple):
            raise ValueError("call of something that is no tensor constructor")
        self.stack.append(_CALLABLES[function](*arguments))

    def _build(self, _: Any) -> None:
        self.stack.pop()  # attributes of an OrderedDict: version numbers of modules
        self._top(dict)

    def _binpersid(self, _: Any) -> None:
        tag, kind, key, _device, size, *_view = self.stack.pop()
        known = isinstance(kind, _Global) and kind in _STORAGES
        if tag != "storage" or not known or not isinstance(key, str):
            raise ValueError("malformed storage")
        if not _is_size(size):
            raise ValueError("storage with a size that is no size")
        self.stack.append(StorageReference(kind.name.removesuffix("Storage"), key, size))


_INSTRUCTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "TUPLE": _Machine._tuple,
    "APPEND": _Machine._append,
    "APPENDS": _Machine._appends,
    "SETITEM": _Machine._setitem,
    "SETITEMS": _Machine._setitems,
    "GLOBAL": _Machine._global,
    "STACK_GLOBAL": _Machine._stack_global,
    "REDUCE": _Machine._reduce,
    "BUILD": _Machine._build,
    "BINPERSID": _Machine._binpersid,
}
_CORRUPT = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, MemoryError)


def read_pickle(file: IO[bytes], source: str) -> Any:
    """Interprets one pickle, leaving the file just behind it.

    Args:
        file: Binary file positioned at the pickle's start.
        source: The file's name, for messages.

    Returns:
        Dictionaries, lists, tuples, numbers, strings, `StorageReference` and
        `TensorReference`.

    Raises:
        InputError: The pickle is corrupt or asks for anything else.
    """
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name == "STOP":
                return machine.stack.pop()
            machine.step(opcode.name, argument)
        raise ValueError("no end")
    except _CORRUPT as error:
        raise InputError(
            f"{source} is corrupt or no plain PyTorch state dictionary ({error}). Nothing in it "
            "was executed. Save the model with safetensors: model.save_pretrained(directory)."
        ) from error
