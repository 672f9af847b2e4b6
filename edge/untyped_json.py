"""Decode JSON of unknown form from callers, models and upstreams.

msgspec reads a number such as 1e308 digit by digit: 19 µs each, the time of 400 others, so 200 kB
of them would block the event loop for half a second. Here Python's `float` reads them in 0.5 µs
each. Integers are read by msgspec.

Every decoder with `Any` in its type has `number` as its hook, since repeated members are all
decoded. A member of type float has no hook: it is declared Raw and decoded once.
"""

from typing import Any

import msgspec

from middlewares.json_number import number as number

decode_any = msgspec.json.Decoder(float_hook=number).decode
"""Raises msgspec.DecodeError, UnicodeDecodeError and RecursionError."""
decode_object = msgspec.json.Decoder(dict[str, Any], float_hook=number).decode
"""The same of an object; anything else is a ValidationError."""
