"""The one rule that keeps held-out material out of training.

Main idea: an instance belongs to the held-out tenth when the hash of its kind and key says so; every generator asks here.
"""
import hashlib


def is_held_out(kind, key):
    """True for the tenth of all instances that training never sees."""
    return hashlib.sha256(f"{kind}|{key}".encode()).digest()[0] % 10 == 0


def draw_side(make, side_of, held_out):
    """Calls `make` until `side_of(result)`, a bool, equals `held_out`."""
    while True:
        value = make()
        if side_of(value) == held_out:
            return value
