"""Reads the body of a request: image files and fields of a form, in memory only and of bounded size."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import numpy as np
from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from cxr.use.scoring import UNKNOWN, Floats

MOST_FILES = 256  # of a request
_SECONDS = 60  # in which a body must arrive
_OLDEST = 150  # years
_CHOICES = {"sex": ("M", "F"), "view": ("PA", "AP")}


class Refused(Exception):
    """A request that cannot be answered.

    Attributes:
        status: of HTTP.
        reason: one sentence.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class _Parser(MultiPartParser):
    """A parser that knows whether the form ended, since a body that was cut off is no error to its base."""

    ended = False

    def on_end(self) -> None:
        self.ended = True


@dataclass(frozen=True)
class Posted:
    """A form.

    Attributes:
        files: contents of the files, in their order.
        attributes: (1, 5) float32, see `Model.score_views`.
    """

    files: list[bytes]
    attributes: Floats


async def read_form(request: Request, megabytes: int, most_files: int) -> Posted:
    """Reads a multipart form with the files `file` and the fields `age`, `sex` and `view`.

    Args:
        request: whose body has not been read.
        megabytes: the largest body.
        most_files: the largest number of files.

    Raises:
        Refused: the body is not such a form, is too large, or does not arrive whole in a minute.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
        raise Refused(415, "the body must be a form (multipart/form-data) with the image as file")
    parser = _Parser(request.headers, _bounded(request, megabytes), max_files=MOST_FILES, max_fields=3)
    parser.spool_max_size = megabytes * 1_000_000 + 1  # never on disk
    try:
        async with asyncio.timeout(_SECONDS):
            form = await parser.parse()
    except TimeoutError:
        raise Refused(408, f"the body did not arrive in {_SECONDS} s") from None
    except ClientDisconnect:  # nobody reads this answer
        raise Refused(400, "the body is incomplete, since the connection was closed") from None
    except MultiPartException as error:
        raise Refused(422, f"the form cannot be read: {error.message.rstrip('.')}") from None
    except (ValueError, AttributeError, TypeError):  # the parser does not expect every header
        raise Refused(422, "the form cannot be read: its headers are damaged") from None
    if not parser.ended:
        await form.close()
        raise Refused(422, "the form cannot be read: it is cut off before its last boundary; send the whole body")
    files, fields = list[bytes](), dict[str, str]()
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name != "file":
                raise Refused(422, f"the form has a file in the field {name[:40]!r}; its name must be 'file'")
            files.append(await value.read())
            await value.close()
        elif name in fields:
            raise Refused(422, f"the form has the field {name[:40]!r} twice")
        else:
            fields[name] = value
    if not 1 <= len(files) <= most_files:
        raise Refused(422, f"the form has {len(files)} files; expected {'1' if most_files == 1 else '1 or more'}")
    return Posted(files, _attributes(fields))


async def _bounded(request: Request, megabytes: int) -> AsyncGenerator[bytes, None]:
    reason = f"the body is larger than {megabytes} MB"
    length = request.headers.get("content-length", "0")
    if len(length) > 18 or (length.isdecimal() and int(length) > megabytes * 1_000_000):
        raise Refused(413, reason)
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > megabytes * 1_000_000:
            raise Refused(413, reason)
        yield chunk


def _attributes(fields: dict[str, str]) -> Floats:
    """Fields to age in centuries, male, female, PA, AP (1, 5); absent and empty fields are unknown."""
    found = np.array([UNKNOWN], np.float32)
    for name, text in fields.items():
        value = text.strip()
        if name == "age" and value:
            try:
                age = float(value)
            except ValueError:
                age = -1.0
            if not 0 <= age <= _OLDEST:
                raise Refused(422, f"age={value[:40]!r} must be a number of years from 0 to {_OLDEST}")
            found[0, 0] = age / 100
        elif name in _CHOICES and value:
            if value.upper() not in _CHOICES[name]:
                raise Refused(422, f"{name}={value[:40]!r} must be {' or '.join(_CHOICES[name])}")
            found[0, (1 if name == "sex" else 3) + _CHOICES[name].index(value.upper())] = 1
        elif name not in ("age", *_CHOICES):
            raise Refused(422, f"the field {name[:40]!r} is unknown; expected age, sex or view")
    return found
