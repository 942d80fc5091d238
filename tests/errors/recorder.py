"""A plugin that notes which lines of the package raised what a test expected, and in which test file.

    RAISED=raised.jsonl python -m pytest -p tests.errors.recorder tests
    python -m tests.errors raised.jsonl
"""

import json
import os
from pathlib import Path

from _pytest.raises import RaisesExc

import minitorch_flux

PACKAGE = Path(minitorch_flux.__file__).parent
leave = RaisesExc.__exit__


def noted(self, kind, error, traceback):
    test = os.environ.get("PYTEST_CURRENT_TEST", "").partition("::")[0]
    at, site = traceback, None
    while at is not None:
        path = Path(at.tb_frame.f_code.co_filename)
        if path.is_relative_to(PACKAGE):
            site = path.relative_to(PACKAGE).as_posix(), at.tb_lineno
        at = at.tb_next
    if site and test:
        with open(os.environ["RAISED"], "a") as file:
            file.write(json.dumps([*site, test]) + "\n")
    return leave(self, kind, error, traceback)


RaisesExc.__exit__ = noted
