"""Mutants: files with chance damage, of their bytes, of members of zips, of values in JSON."""

import copy
import io
import json
import random
import time
import zipfile
from collections import Counter

STRANGE = (None, True, False, -1, 0, 3, 2**31, 10**12, 10**30, -(10**30), 1.5, 1e308, "", "x",
    "os.system", "__class__", "../../etc/passwd", [], [[]], {}, {"": 1}, [None])  # fmt: skip


def of_bytes(data, draw):
    """Bits flipped, bytes replaced, cut out, put in, zeroed, doubled, swapped; cut at the end."""
    data = bytearray(data)
    for _ in range(draw.choice([1, 1, 1, 2, 5])):
        at, size = draw.randrange(len(data)), draw.randint(1, 30)
        other = draw.randrange(len(data))
        way = draw.randrange(9)
        if way < 2:
            data[at] ^= 1 << draw.randrange(8)
        elif way == 2:
            data[at] = draw.choice([0, 1, 127, 128, 255, draw.randrange(256)])
        elif way == 3:
            del data[at : at + size]
        elif way == 4:
            data[at:at] = draw.randbytes(size)
        elif way == 5:
            data[at : at + size] = draw.choice([b"\0", b"\xff"]) * len(data[at : at + size])
        elif way == 6:
            data[other:other] = data[at : at + size]
        elif way == 7:
            data[at : at + size], data[other : other + size] = (
                data[other : other + size],
                data[at : at + size],
            )
        else:
            del data[max(at, 1) :]
        data = data or bytearray(b"\0")
    return bytes(data)


def of_json(text, draw):
    """JSON with values replaced, moved, doubled or removed."""
    data = json.loads(text)
    for _ in range(draw.choice([1, 1, 2, 3])):
        places = list(_places(data))
        if not places:
            break
        holder, key = draw.choice(places)
        other, other_key = draw.choice(places)
        way = draw.randrange(6)
        if way < 2:
            holder[key] = copy.deepcopy(draw.choice(STRANGE))
        elif way == 2:
            holder[key] = copy.deepcopy(other[other_key])
        elif way == 3:
            del holder[key]
        elif way == 4 and isinstance(holder, dict):
            holder[draw.choice([str(other_key), "new", "class_name"])] = holder.pop(key)
        elif isinstance(holder[key], (int, float)):
            holder[key] = holder[key] * draw.choice([-1, 2, 10**6, 10**12]) + draw.choice([0, 1])
        elif isinstance(holder, list):
            holder.insert(draw.randrange(len(holder)), copy.deepcopy(holder[key]))
    return json.dumps(data).encode()


def _places(data):
    inside = data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ()
    for key in inside:
        yield data, key
        yield from _places(data[key])


def of_safetensors(data, draw):
    """A header whose values changed, of the right length."""
    size = int.from_bytes(data[:8], "little")
    header = of_json(data[8 : 8 + size], draw)
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def of_content(name, data, draw):
    """A file changed by what it is, or by its bytes."""
    way = draw.random()
    if name.endswith(".json") and way < 0.8:
        return of_json(data, draw)
    if name.endswith(".safetensors") and way < 0.6:
        return of_safetensors(data, draw)
    return of_bytes(data, draw)


def of_zip(data, draw):
    """A zip of which one member changed, whose checksum (CRC) is right; or some of its names."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = draw.choice(list(members))
    if draw.random() < 0.1:
        members[draw.choice(["x", "config.json", "../x"])] = members.pop(name)
    else:
        members[name] = of_content(name, members[name], draw)
    out = io.BytesIO()
    how = draw.choice([zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    with zipfile.ZipFile(out, "w", how) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def fuzzed(mutant, load, seeds, seconds=1.0, refusals=(ValueError,)):
    """How many loads of mutants ended how.

    `mutant(draw)` puts a mutant in place, `load()` raises AssertionError for what it must not be.
    """
    ended = Counter()
    for seed in seeds:
        mutant(random.Random(seed))
        start = time.thread_time()
        try:
            load()
            ended["loaded"] += 1
        except refusals as error:
            ended[type(error).__name__] += 1
        except Exception as error:
            raise AssertionError(f"mutant {seed}: {error!r:.300}") from error
        took = time.thread_time() - start
        assert took < seconds, f"mutant {seed} takes {took} seconds"
    return ended
