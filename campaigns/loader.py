"""The only door for a campaign's JSON.

Everything that is wrong is told at once, each with its file, line, column and JSON pointer, what came and what is
allowed. Nothing but InvalidCampaign leaves this module, whatever a file holds.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect_campaigns.errors import Complaint, InvalidCampaign
from prefect_campaigns.faults import MAX_FAULTS, Fault, examine
from prefect_campaigns.jsonmend import place
from prefect_campaigns.jsontext import JsonText, without_names_in_headers
from prefect_campaigns.models import Campaign
from prefect_campaigns.words import json_pointer

MAX_BYTES = 1024 * 1024
"""The largest file that is read. Prefect stores at most half of that as a run's parameters."""

SCHEMA_FILE = "schema.json"
_BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True, kw_only=True)
class LoadedCampaign:
    """A campaign and the file it was read from."""

    path: Path
    campaign: Campaign


def load(path: Path) -> Campaign:
    """Return the campaign that a file holds.

    Raises:
        InvalidCampaign: the file cannot be read, or holds no campaign that can be used.
    """
    return _read_file(path).usable()


def load_text(text: str | bytes, *, source: str) -> Campaign:
    """Return the campaign that a text holds; ``source`` names the text in complaints.

    Raises:
        InvalidCampaign: the text holds no campaign that can be used.
    """
    return _read(text, source).usable()


def validate_object(data: Any, *, source: str) -> Campaign:
    """Return the campaign that parsed JSON holds; complaints have a pointer and no line.

    Raises:
        InvalidCampaign: the data is no campaign that can be used.
    """
    campaign, faults = examine(data)
    if campaign is None:
        # Indexes in the order of numbers: step 2 before step 10.
        faults.sort(key=lambda fault: [(isinstance(part, str), part) for part in fault.path])
        raise InvalidCampaign(
            _at_most([_complaint(source, json_pointer(fault.path), fault.message) for fault in faults])
        )
    return campaign


def load_many(paths: Iterable[Path]) -> list[LoadedCampaign]:
    """Return the campaigns of all files, in their order; a folder stands for its ``*.json``, sorted.

    A folder's own folders, its hidden files and its ``schema.json`` are left out. A file that is named twice is read
    once. Two campaigns with one key are a complaint: the second would replace the first.

    Raises:
        InvalidCampaign: with the complaints about all files.
    """
    loaded, complaints = load_usable(paths)
    if complaints:
        raise InvalidCampaign(complaints)
    return loaded


def load_usable(paths: Iterable[Path]) -> tuple[list[LoadedCampaign], list[Complaint]]:
    """Return what ``load_many`` does of the files that can be used, and the complaints about the others."""
    complaints: list[Complaint] = []
    readings: dict[Path, _Reading] = {}
    first_of: dict[str, _Reading] = {}
    for path in paths:
        files, folder_complaints = _files(path)
        complaints += folder_complaints
        for file in files:
            identity = _identity(file)
            if identity in readings:
                continue
            reading = readings[identity] = _read_file(file)
            complaints += reading.complaints
            if reading.campaign is None:
                continue
            first = first_of.setdefault(reading.campaign.slug, reading)
            if first is not reading:
                complaints.append(reading.same_key(first.source))
    usable = [LoadedCampaign(path=Path(one.source), campaign=one.campaign) for one in first_of.values() if one.campaign]
    return usable, complaints


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """What came of reading one source: a campaign, or complaints."""

    source: str
    campaign: Campaign | None = None
    complaints: tuple[Complaint, ...] = ()
    json: JsonText | None = None

    def usable(self) -> Campaign:
        if self.campaign is None:
            raise InvalidCampaign(self.complaints)
        return self.campaign

    def same_key(self, other: str) -> Complaint:
        assert self.campaign is not None and self.json is not None  # noqa: S101
        message = (
            f'the name makes the key "{self.campaign.slug}", which is the key of the campaign in {other} already;'
            " each campaign needs its own"
        )
        return _placed(self.source, self.json, self.json.locate(("name",)), ("name",), message)


def _complaint(source: str, pointer: str, message: str) -> Complaint:
    return Complaint(source=source, pointer=pointer, message=message)


def _placed(source: str, json: JsonText, offset: int, path: tuple[str | int, ...], message: str) -> Complaint:
    line, column = json.place(offset)
    return Complaint(source=source, pointer=json_pointer(path), message=message, line=line, column=column)


def _at_most(complaints: list[Complaint]) -> list[Complaint]:
    if len(complaints) < MAX_FAULTS:
        return complaints
    message = f"the first {MAX_FAULTS:,} complaints are listed, and there may be more"
    return [*complaints[:MAX_FAULTS], _complaint(complaints[0].source, "", message)]


def _failed(source: str, message: str, *, at: tuple[int, int] | None = None) -> _Reading:
    line, column = at or (None, None)
    complaint = Complaint(source=source, pointer="", message=message, line=line, column=column)
    return _Reading(source=source, complaints=(complaint,))


def _identity(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, ValueError, RuntimeError):
        # A loop of links, or a name no file can have: reading it says so.
        return path


def _files(path: Path) -> tuple[list[Path], list[Complaint]]:
    """Return the files a path stands for, or the complaint that it stands for none."""
    source = str(path)
    try:
        if not path.is_dir():
            return [path], []
        found = sorted(
            file
            for file in path.iterdir()
            if file.suffix == ".json"
            and file.name != SCHEMA_FILE
            and not file.name.startswith(".")
            and not file.is_dir()
        )
    except ValueError:
        return [path], []
    except OSError as error:
        return [], [_complaint(source, "", f"the folder cannot be read: {error.strerror}")]
    if not found:
        return [], [_complaint(source, "", "the folder holds no campaign; campaigns are its files named *.json")]
    return found, []


def _read_file(path: Path) -> _Reading:
    source = str(path)
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return _failed(source, "a folder came; a file with one campaign is allowed here")
        if not stat.S_ISREG(mode):
            # Reading a pipe could wait for ever.
            return _failed(source, "something came that is no ordinary file; a file with one campaign is allowed here")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return _failed(source, "there is no such file")
    except OSError as error:
        return _failed(source, f"the file cannot be read: {error.strerror}")
    except ValueError as error:
        return _failed(source, f"no file can have that name: {error}")
    return _read(content, source)


def _read(text: str | bytes, source: str) -> _Reading:
    if len(text) > MAX_BYTES:
        return _failed(source, f"more than {MAX_BYTES // 1024:,} KiB came; a campaign has at most that")
    if isinstance(text, bytes):
        decoded = _decoded(text, source)
        if isinstance(decoded, _Reading):
            return decoded
        text = decoded
    return _examined(text.removeprefix(_BYTE_ORDER_MARK), source, marked=text.startswith(_BYTE_ORDER_MARK))


def _decoded(content: bytes, source: str) -> str | _Reading:
    encoding = _wide_encoding(content)
    if encoding:
        return _failed(source, f"text in {encoding} came; a campaign is written in UTF-8", at=(1, 1))
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        before = content[: error.start].decode().removeprefix(_BYTE_ORDER_MARK)
        message = f"the byte 0x{content[error.start]:02X} came, which is no UTF-8; a campaign is written in UTF-8"
        return _failed(source, message, at=place(before, len(before)))


def _wide_encoding(content: bytes) -> str | None:
    """Return the encoding of text that is UTF-16 or UTF-32: by its mark, else by the NUL bytes in it."""
    if content.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "UTF-32"
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16"
    # JSON begins with an ASCII character, and UTF-8 has no NUL.
    return "UTF-16 or UTF-32" if b"\0" in content[:4] and content[:4].strip(b"\0") else None


def _examined(text: str, source: str, *, marked: bool) -> _Reading:
    json = JsonText(text)
    campaign, faults = examine(json.data) if json.understood else (None, [])
    if campaign is not None and not marked and not json.slips:
        return _Reading(source=source, campaign=campaign, json=json)
    complaints = [_placed(source, json, slip.offset, slip.path, slip.message) for slip in json.slips]
    complaints += _placed_faults(source, json, faults)
    if marked:
        message = "a byte order mark came; a campaign is written in UTF-8 without one"
        complaints.append(Complaint(source=source, pointer="", message=message, line=1, column=1))
    complaints.sort(key=lambda complaint: (complaint.line or 0, complaint.column or 0, complaint.pointer))
    return _Reading(source=source, complaints=tuple(_at_most(complaints)), json=json)


def _placed_faults(source: str, json: JsonText, faults: Iterable[Fault]) -> Iterator[Complaint]:
    broken = {slip.path for slip in json.slips if "headers" in slip.path}
    for fault in faults:
        # What is said of headers that are no JSON may be said of half a secret.
        if not json.is_doubtful(fault.path) and without_names_in_headers(fault.path) not in broken:
            offset = json.locate(fault.path, key=fault.at_key)
            yield _placed(source, json, offset, fault.path, fault.message)
