"""Damage files: random bytes, and values that a hostile author might choose if the format is known."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

Mutation = Callable[[bytes, Random], bytes]
RAW = "\x00raw:"
"""Prefix of a text that is written to JSON without quotation marks."""
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, -3, 3, 10**7, 10**12, 2**31, 2**63, 10**30, 0.5, -0.5, 1e308,
    f"{RAW}1e400", f"{RAW}NaN", f"{RAW}-Infinity", f"{RAW}{'9' * 5000}",
    "", "a", "1", "/", "..", "../../x", "/dev/zero", "/dev/stdin", "\ud800", "\x00", "\x1b[2J\u202e", "é",
    "imf@+1", "imf@1\n", "imf@0", "imf@99999", "plain", "fp16", "cifar10", "resnet8", "torchvision:resnet18",
    "{0..99999999999}", "x" * 100_000, "<script>alert(1)</script>", "a\nb",
    [], {}, [[]], [None], [0, 0, 0], [-1, "n"], {"": None}, {"a": {"b": []}},
    f"{RAW}{'[' * 3000}{']' * 3000}", f"{RAW}{'[' * 100_000}", RAW + '{"a":' * 200 + "1" + "}" * 200,
)  # fmt: skip


def damage(content: bytes, random: Random) -> bytes:
    """Return a file with a few bytes changed, removed or added."""
    data = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 8))):
        place = random.randrange(len(data)) if data else 0
        length = random.choice((1, 2, 4, 8, 64, 4096))
        match random.randrange(8):
            case 0 if data:
                data[place] ^= 1 << random.randrange(8)
            case 1:
                data[place : place + length] = random.randbytes(length)
            case 2:
                del data[place : place + length]
            case 3:
                data[place:place] = data[place : place + length]
            case 4:
                data[place : place + length] = b"\xff" * length
            case 5:
                data[place : place + length] = bytes(length)
            case 6:
                data = data[:place]
            case _:
                data[place:place] = random.choice((b"{", b"[", b'"', b"-", b"1e400", b"\\ud800", b"\x1b[2J"))
    return bytes(data)


def damage_text(content: bytes, random: Random) -> bytes:
    """Return a text with a word replaced, or a line moved, removed or doubled."""
    lines = content.decode(errors="replace").split("\n")
    place = random.randrange(len(lines))
    value = random.choice(VALUES)
    text = value.removeprefix(RAW) if isinstance(value, str) else json.dumps(value)
    match random.randrange(5):
        case 0:
            lines[place] = lines[place].partition(":")[0] + ": " + text
        case 1:
            lines[place] = text + ":" + lines[place].partition(":")[2]
        case 2:
            lines.insert(place, lines[random.randrange(len(lines))])
        case 3:
            del lines[place]
        case _:
            lines[place] = (
                random.choice((" ", "\t", "- ", "? ", "&a ", "*a ", "!!", "[", "{", "|")) + lines[place]
            )
    return "\n".join(lines).encode(errors="surrogatepass")


def damage_json(content: bytes, random: Random) -> bytes:
    """Return a JSON document with one to three values replaced, removed, doubled or renamed."""
    document = json.loads(content)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        places = list(_places(document))
        if not places:
            break
        holder, key = random.choice(places)
        _change(holder, key, random)
    return _dump(document)


def _change(holder: Any, key: Any, random: Random) -> None:
    old = holder[key]
    match random.randrange(8):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            del holder[key]
            holder[random.choice(("", "x", "\x1b[2J", "é", key + " "))] = old
        case 1:
            holder.insert(key, old)
        case 2 if isinstance(old, int | float):
            holder[key] = random.choice((-old, old + 1, old * 1000, str(old), [old], float(old)))
        case 2 if isinstance(old, str):
            holder[key] = random.choice((old + "x", old[:-1], old.upper(), [old], f"../{old}", f"{old}\n"))
        case 2:
            holder[key] = random.choice(([old], {"a": old}, list(old) if old else None))
        case _:
            holder[key] = random.choice(VALUES)


def _places(value: Any) -> Any:
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def _dump(document: Any) -> bytes:
    text = json.dumps(document)
    begin = json.dumps(RAW)[:-1]
    while begin in text:
        before, _, after = text.partition(begin)
        raw, _, rest = after.partition('"')
        while raw.endswith("\\"):  # a quotation mark inside
            more, _, rest = rest.partition('"')
            raw = f'{raw[:-1]}"{more}'
        text = before + raw + rest
    return text.encode()


def damage_safetensors(content: bytes, random: Random) -> bytes:
    """Return a safetensors file whose header was changed as JSON; its lengths are correct."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    metadata = header.get("__metadata__", {})
    inner = [key for key, value in metadata.items() if value[:1] == "{"]
    if inner and random.random() < 0.5:
        key = random.choice(inner)
        changed = damage_json(metadata[key].encode(), random)
        header["__metadata__"][key] = changed.decode()
        written = json.dumps(header).encode()
    else:
        written = damage_json(json.dumps(header).encode(), random)
    return struct.pack("<Q", len(written)) + written + content[8 + length :]


def damage_onnx(content: bytes, random: Random) -> bytes:  # noqa: PLR0912, a branch for each kind of damage
    """Return an ONNX model with one part changed: a name, a shape, a type, a node, a weight, its metadata."""
    import onnx

    model = onnx.load_model_from_string(content)
    graph = model.graph
    for _ in range(random.choice((1, 1, 2))):
        match random.randrange(12):
            case 0:
                _metadata(model, random)
            case 1:
                shape = random.choice([*graph.input, *graph.output]).type.tensor_type.shape
                if shape.dim:
                    random.choice(shape.dim).dim_value = random.choice((0, -1, 1, 2, 7, 2**40))
            case 2:
                value = random.choice([*graph.input, *graph.output])
                value.type.tensor_type.elem_type = random.choice((0, 1, 2, 6, 7, 8, 9, 10, 11, 16, 99))
            case 3 if graph.node:
                del graph.node[random.randrange(len(graph.node))]
            case 4 if graph.initializer:
                del graph.initializer[random.randrange(len(graph.initializer))]
            case 5:
                model.opset_import[0].version = random.choice((0, -1, 1, 7, 12, 99, 2**40))
            case 6:
                model.ir_version = random.choice((0, -1, 1, 3, 14, 99, 2**40))
            case 7 if graph.initializer:
                tensor = random.choice(graph.initializer)
                tensor.raw_data = random.choice((b"", tensor.raw_data[:-1], b"\xff" * len(tensor.raw_data)))
            case 8 if graph.initializer:
                tensor = random.choice(graph.initializer)
                tensor.dims[:] = random.choice(([], [0], [-1], [2**40, 2**40], [1, 1, 1, 1, 1]))
            case 9 if graph.node:
                node = random.choice(graph.node)
                node.op_type = random.choice(("Nope", "Identity", "If", "Softmax", "", "\x1b[2J"))
            case 10 if graph.initializer:
                tensor = random.choice(graph.initializer)
                tensor.data_location = onnx.TensorProto.EXTERNAL
                tensor.external_data.add(
                    key="location", value=random.choice(("/etc/passwd", "../x", "x", ""))
                )
            case _:
                value = random.choice([*graph.input, *graph.output])
                value.name = random.choice(("", "x", "\x1b[2J", value.name + "x"))
    return model.SerializeToString()


def _metadata(model: Any, random: Random) -> None:
    props = model.metadata_props
    if not props:
        props.add(key="labels", value="[]")
    entry = random.choice(props)
    try:
        entry.value = damage_json(entry.value.encode(), random).decode()
    except ValueError:
        entry.value = random.choice(("", "[" * 100_000, "null", "1e400", "é" * 100, '"\\ud800"'))


def damage_tar(content: bytes, random: Random) -> bytes:
    """Return a tar archive with one header field changed and the checksum of that header corrected."""
    data = bytearray(content)
    blocks = [at for at in range(0, len(data) - 511, 512) if data[at + 257 : at + 262] == b"ustar"]
    if not blocks:
        return damage(content, random)
    start = random.choice(blocks)
    place, length = random.choice(
        ((0, 100), (100, 8), (124, 12), (136, 12), (156, 1), (157, 100), (345, 155))
    )
    values = (
        b"\xff" * length,
        b"9" * length,
        b"7" * length,
        b"\0" * length,
        b"-1",
        b"5",
        b"2",
        b"../x\0",
        b"x",
    )
    new = random.choice(values)[:length]
    data[start + place : start + place + len(new)] = new
    data[start + 148 : start + 156] = b" " * 8
    data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + 512])
    return bytes(data)


def seal(path: Path) -> None:
    """Write the hash of a changed file into its record, as a forger would."""
    from hashlib import sha256

    record = path.with_name(path.name + ".json")
    if record.is_file():
        content = json.loads(record.read_bytes())
        content["sha256"] = sha256(path.read_bytes()).hexdigest()
        record.write_text(json.dumps(content))
