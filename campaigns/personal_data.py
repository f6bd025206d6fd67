"""One person's address, wherever an engine, a mail server or a log has written it, and what goes when it has to go."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote

ERASED = "[erased]"
"""What stands where an address stood."""


class Address:
    """An e-mail address that is looked for.

    It is found in any case, and as URLs write it (``bob%40example.com``); ``bob@example.com`` is found neither in
    ``jim-bob@example.com`` nor in ``bob@example.com.au``.
    """

    def __init__(self, text: str) -> None:
        """Take the address.

        Raises:
            ValueError: it is none.
        """
        self.text = text.strip()
        local, _, domain = self.text.rpartition("@")
        if not local or "." not in domain or re.search(r"[\s<>,;\"]", self.text):
            raise ValueError(f"{text!r} is no e-mail address; one looks like bob@example.com")
        forms = {self.text, self.text.replace("@", "%40"), quote(self.text, safe="")}
        # JSON has its own way to write what is not ASCII, and JSON inside of JSON another.
        for _ in range(2):
            forms |= {json.dumps(form)[1:-1] for form in forms}
        self.forms = tuple(sorted(form.lower() for form in forms))
        """How it may be written, in lower case."""
        written = "|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))
        # What stands before it may end in letters, and be a character as URLs or JSON write it: %3A, \n, \u003c.
        before = r"(?<=%[0-9a-f]{2})|(?<=\\[nrtbf])|(?<=\\u[0-9a-f]{4})|(?<![\w.+%-])"
        self._pattern = re.compile(rf"(?:{before})(?:{written})(?![\w-]|\.\w)", re.IGNORECASE)

    def is_in(self, value: Any) -> bool:
        """Whether it stands anywhere in a text, or in a value as JSON has it: as part of a text, or of a key."""
        if isinstance(value, str):
            return self._pattern.search(value) is not None
        if isinstance(value, dict):
            return any(self.is_in(key) or self.is_in(item) for key, item in value.items())
        return isinstance(value, list) and any(map(self.is_in, value))

    def without(self, value: Any) -> Any:
        """Return a value as JSON has it without the person.

        - What a list says of the person goes whole, with name, phone and all that stands beside the address: the
          object, or the row, of a list around it; not one that holds a list of others, too.
        - What stands under the address as a key goes whole.
        - Of an object that is in no list, and in which some text is the address, all texts go; the numbers stay.
        - Any other text that holds it goes whole: it may name the person, too.
        """
        if isinstance(value, list) and self.is_in(value):
            return [self.without(item) for item in value if not self._is_of_the_person(item)]
        if isinstance(value, dict) and self.is_in(value):
            kept = {key: item for key, item in value.items() if not self.is_in(key)}
            if any(isinstance(item, str) and self._is(item) for item in kept.values()):
                return {key: self._without_texts(item) for key, item in kept.items()}
            return {key: self.without(item) for key, item in kept.items()}
        return ERASED if isinstance(value, str) and self.is_in(value) else value

    def _is(self, text: str) -> bool:
        """Whether a text is the address, and no sentence about it; a display name may stand before it."""
        found = self._pattern.search(text)
        if found is None:
            return False
        before, after = text[: found.start()].strip(), text[found.end() :].strip()
        return (before == "" and after == "") or (before.endswith("<") and after == ">")

    def _is_of_the_person(self, item: Any) -> bool:
        """Whether an item of a list goes whole: a text, a row of a table, or an object that speaks of nobody else."""
        if isinstance(item, list):
            return self.is_in(item) and not any(isinstance(one, (dict, list)) for one in item)
        return self.is_in(item) and not self._is_among_others(item)

    def _is_among_others(self, value: Any) -> bool:
        """Whether it stands in a list of objects, or of rows, of which others are somebody else's: a batch."""
        if isinstance(value, dict):
            return any(self._is_among_others(item) for item in value.values())
        if not isinstance(value, list):
            return False
        entries = [item for item in value if isinstance(item, (dict, list))]
        found = sum(map(self.is_in, entries))
        return 0 < found < len(entries) or any(map(self._is_among_others, entries))

    def _without_texts(self, item: Any) -> Any:
        if isinstance(item, str):
            return ERASED
        if isinstance(item, dict):
            return {key: self._without_texts(inner) for key, inner in item.items()}
        if isinstance(item, list):
            return [self._without_texts(one) for one in self.without(item) if not isinstance(one, str)]
        return item
