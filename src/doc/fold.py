#!/usr/bin/env python3
"""Writes fold.def: simple case folding of Unicode as ranges, from the tables that Python carries.

    src/doc/fold.py > src/doc/fold.def      (and src/doc/fold.py --check src/doc/fold.def)

A row says: every `step`-th code point of first..last folds to itself plus `delta`.
"""
import sys
import unicodedata


def fold(code):
    """Simple folding: one code point to one. Full foldings to several characters fall back to lower case."""
    for folded in (chr(code).casefold(), chr(code).lower()):
        if len(folded) == 1:
            return ord(folded)
    return code


def ranges():
    """(first, last, step, delta), greedily: runs of steps 1 and 2 with the same delta."""
    pairs = [(c, fold(c) - c) for c in range(0x80, 0x110000) if not 0xD800 <= c < 0xE000 and fold(c) != c]
    out = []
    for code, delta in pairs:
        if out:
            first, last, step, same = out[-1]
            gap = code - last
            if delta == same and (gap == step or (first == last and gap in (1, 2))):
                out[-1] = (first, code, gap, delta)
                continue
        out.append((code, code, 1, delta))
    return out


def text():
    lines = [
        "/* Simple case folding beyond ASCII: ROW(first, last, step, delta), by code point.",
        f" * Unicode {unicodedata.unidata_version}. Do not edit: made by src/doc/fold.py. */",
    ]
    lines += [f"ROW(0x{f:04x}, 0x{l:04x}, {s}, {d})" for f, l, s, d in ranges()]
    return "\n".join(lines) + "\n"


def main():
    if sys.argv[1:2] == ["--check"]:
        with open(sys.argv[2], encoding="utf-8") as file:
            same = file.read() == text()
        print("same" if same else "different")
        return 0 if same else 1
    sys.stdout.write(text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
