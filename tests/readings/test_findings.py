"""Reports of sanitizers, read: what was found first, and where."""

import pytest

from minitorch_flux.readings.findings import Finding, Place, first_finding

THREAD = """moments of sample.cu, 2 blocks of 64 x 1 threads: ==================
WARNING: ThreadSanitizer: data race (pid=7)
  Write of size 4 at 0x7b040000 by thread T130:
    #0 flux_store /k/flux.h:12 (emulate+0x1)
    #1 moments /k/sample.cu:41 (emulate+0x2ab)
    #2 void emu::drive<>(float*) /k/emulate.h:190 (emulate+0x3)

  Previous write of size 4 at 0x7b040000 by thread T129:
    #0 moments /k/sample.cu:39 (emulate+0x2ab)
    #1 void emu::drive<>(float*) /k/emulate.h:190 (emulate+0x3)

  Location is heap block of size 20 at 0x7b040000 allocated by main thread:
    #0 malloc <null> (libtsan.so.2+0x3)
"""
UNKNOWN = THREAD.replace(
    "  Previous write of size 4 at 0x7b040000 by thread T129:\n    #0 moments /k/sample.cu:39 (emulate+0x2ab)\n"
    "    #1 void emu::drive<>(float*) /k/emulate.h:190 (emulate+0x3)",
    "  Previous read of size 4 at 0x7b040000 by thread T129:\n    [failed to restore the stack]",
)
ADDRESS = """reversed of sample.cu, 3 blocks: =================================================================
==9==ERROR: AddressSanitizer: heap-buffer-overflow on address 0x61 at pc 0x55 bp 0x7f sp 0x7f
READ of size 4 at 0x61 thread T0
    #0 0x5555 in vec_load /k/vectors.h:70
    #1 0x5556 in reversed /k/sample.cu:52
    #2 0x5557 in emu::drive /k/emulate.h:190

0x61 is located 0 bytes to the right of 400-byte region
"""
UNDEFINED = "moments of sample.cu, 3 blocks: /k/a.cu:33:30: runtime error: signed integer overflow: 9 * 10\n    #0 0x1 in x\n"
BARRIER = """moments of sample.cu, 3 blocks: emulator: block 0 has a barrier that not every thread reaches: 0 at it
    thread (0, 0) waits at /k/flux.h:177
    thread (32, 0) waits at /k/sample.cu:40
    thread (40, 0) waits at /k/sample.cu:41
"""


@pytest.mark.parametrize(
    ("report", "what", "places"),
    [
        (THREAD, "data race", [("write", "/k/sample.cu", 41), ("earlier write", "/k/sample.cu", 39)]),
        (UNKNOWN, "data race", [("write", "/k/sample.cu", 41)]),
        (ADDRESS, "heap-buffer-overflow", [("read", "/k/sample.cu", 52)]),
        (ADDRESS.replace("sample.cu:52", "sample.cc:52"), "heap-buffer-overflow", [("read", "/k/vectors.h", 70)]),
        (UNDEFINED, "signed integer overflow: 9 * 10", [("", "/k/a.cu", 33)]),
        (
            BARRIER,
            "block 0 has a barrier that not every thread reaches: 0 at it",
            [("thread (0, 0) waits", "/k/flux.h", 177), ("thread (32, 0) waits", "/k/sample.cu", 40)],
        ),
        ("emulator: still running after 3 seconds", "still running after 3 seconds", []),
        ("erf of x.cu: ended with status -11", "the program crashed (erf of x.cu: ended with status -11)", []),
        ("", "the program crashed (it says nothing)", []),
    ],
    ids=["race", "race, half known", "address", "address in a header", "undefined", "barrier", "endless", "crash", "silent"],
)  # fmt: skip
def test_reports(report, what, places):
    assert first_finding(report) == Finding(what, tuple(Place(*place) for place in places))


def test_words(tmp_path):
    text = tmp_path / "a.cu"
    text.write_text("one\n    two;\n")
    place = Place("write", str(text), 2)
    assert str(place) == f"write at {text}:2"
    assert place.text == "two;"
    assert Place("", "/nowhere/a.cu", 2).text == ""
    assert Place("", str(text), 9).text == ""
    assert str(Finding("data race", (place, place))) == f"data race: write at {text}:2, write at {text}:2"
    assert str(Finding("crash", ())) == "crash"
