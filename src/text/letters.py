#!/usr/bin/env python3
"""Writes letters.def: which code points make words, and what letters are without their accents, from the tables of
Unicode that Python carries.

    src/text/letters.py > src/text/letters.def      (and src/text/letters.py --check src/text/letters.def)

RANGE(first, last, class): class 1 stands in words (letters and digits), 2 is a mark upon the one before.
BASE(code, base): a folded letter that is another one with marks upon it. Latin and Greek, and of Cyrillic only yo:
short i is a letter of its own, and stemmers want it. Hangul and kana are made of parts, not of marks.
"""
import sys
import unicodedata

BMP = [c for c in range(0x80, 0x10000) if not 0xD800 <= c < 0xE000]
BASES = [(0xC0, 0x250), (0x370, 0x400), (0x1E00, 0x2000), (0x451, 0x452)]


def kind(code):
    category = unicodedata.category(chr(code))
    if category[0] == "L" or category in ("Nd", "Nl"):
        return 1
    return 2 if category[0] == "M" else 0


def ranges():
    out = []
    for code in list(BMP) + list(range(0x10000, 0x32000)):
        what = kind(code)
        if not what:
            continue
        if out and out[-1][1] == code - 1 and out[-1][2] == what:
            out[-1][1] = code
        else:
            out.append([code, code, what])
    return out


def bases():
    for first, last in BASES:
        for code in range(first, last):
            if kind(code) != 1 or chr(code).lower() != chr(code):
                continue
            parts = unicodedata.normalize("NFD", chr(code))
            if len(parts) > 1 and all(unicodedata.category(p) == "Mn" for p in parts[1:]):
                yield code, ord(parts[0])


def text():
    lines = [f"/* Unicode {unicodedata.unidata_version}; made by letters.py, do not edit. */"]
    lines += ["RANGE(0x%x, 0x%x, %d)" % tuple(r) for r in ranges()]
    lines += ["BASE(0x%x, 0x%x)" % b for b in sorted(bases())]
    return "\n".join(lines) + "\n"


if sys.argv[1:2] == ["--check"]:
    sys.exit(open(sys.argv[2], encoding="utf-8").read() != text())
sys.stdout.write(text())
