"""The cause of an upstream's refusal, by its codes and words, if the status does not decide it.

A status of 400 has many causes: an invalid key (Gemini, xAI), an unsupported country, an unpaid
bill, a model that is not loaded, too many tokens per minute. Words in quotes do not count, since
they may be quoted from the request.
"""

import re

from .body import ErrorBody

_RATE_CODES = re.compile(
    r"rate_limit(?:_exceeded|_error|ed)?|ratelimit(?:exceeded|reached)?|too_?many_?requests"
    r"|throttl(?:ing|ed)(?:exception|error|\..*)?|resource_exhausted|tokens_per_minute|slow_down"
)
_RATE_WORDS = re.compile(
    r"(?i:rate[ -]?limit(?:s|ed)?\b|too many requests|\bper minute\b|request was throttled"
    r"|(?:tokens|requests) per (?:second|hour|day))|\b(?:TPM|RPM|TPD|RPD)\b"
)
_BEYOND = re.compile(
    r"\blimit:? (\d[\d,]{0,20})\b[^.\d]{0,20}\brequested:? (\d[\d,]{0,20})\b",
    re.IGNORECASE | re.ASCII,
)
_QUOTA_WORDS = re.compile(r"quota", re.IGNORECASE)
_UNPAID_CODES = re.compile(
    r"insufficient_(?:quota|balance|credits?|funds)|billing.*|arrearage|credit_balance_.*"
    r"|(?:organization|project)_spend_limit_exceeded|payment_required|billing_disabled|1113"
)
_UNPAID_WORDS = re.compile(
    r"insufficient (?:account )?(?:balance|credits?|funds)|balance is (?:insufficient|too low)"
    r"|credit balance|not enough (?:credits?|balance)|arrear|overdue payment|payment required"
    r"|(?:used|exceeded|reached)[^.]{0,40}\b(?:credits|usage limits)|account is in good standing"
    r"|please (?:recharge|top up|add (?:more )?credits)",
    re.IGNORECASE,
)
_FILTERED_CODES = re.compile(
    r"content_(?:filter|policy)\w*|data_?inspection_?failed|responsibleaipolicyviolation"
    r"|prohibited_content|moderation_blocked|input_moderation|invalid_prompt|safety"
    r"|content_moderation\w*|sensitive\w*|1301|policy_violation"
)
_FILTERED_WORDS = re.compile(
    r"content[_ ](?:management )?(?:policy|policies|filter)|safety (?:system|filter|setting)"
    r"|inappropriate content|content exists risk|sensitive (?:or unsafe )?content|new_sensitive"
    r"|data_inspection_failed|flagged (?:as|for|by)|was flagged|usage polic|prohibited[_ ]content"
    r"|requires moderation",
    re.IGNORECASE,
)
_OPERATOR_CODES = re.compile(
    r"(?:invalid|incorrect|missing|expired)_?api_?key|api_?key_(?:invalid|expired|missing)\w*"
    r"|api_key_(?:service|http_referrer|ip_address|android_app|ios_app)_blocked|service_disabled"
    r"|authentication(?:_error|error)|invalid_?authentication\w*|unauthori[sz]ed|unauthenticated"
    r"|permission_?denied|permission_error|access_?denied(?:exception|\..*)?|forbidden"
    r"|account_(?:deactivated|disabled|suspended|inactive)|organization_restricted"
    r"|unrecognizedclientexception|expiredtoken(?:exception)?|invalidsignatureexception"
    r"|incompletesignature\w*|missingauthenticationtoken\w*|invalidclienttokenid"
    r"|unsupported_country_region_territory|invalid_?subscription\w*|consumer_(?:invalid|suspended)"
    r"|operationnotsupported|project_(?:invalid|not_found)"
)
_MODEL_CODES = re.compile(
    r"model_?not_?(?:found|open|ready|available|supported|loaded|exist)\w*|invalid_model\w*"
    r"|deployment_?not_?found|model_decommissioned|no_models?_loaded|resourcenotfoundexception"
)
_OPERATOR_WORDS = re.compile(
    # the key
    r"(?:invalid|incorrect|wrong|expired|missing|unknown|no)(?: or \w+)? (?:x-)?api[ _-]?key"
    r"|api[ _-]?key(?:\s+(?:is|was|has been|you provided|provided))*\s+"
    r"(?:not (?:valid|found)|invalid|incorrect|expired|disabled|revoked|missing|leaked|reported)"
    r"|api[ _-]?key[^.]{0,30}(?:expired|is required)|authentication (?:fails|failed|error)"
    r"|security token included in the request|request signature we calculated"
    r"|invalid (?:authentication|credentials|bearer token|access token)"
    r"|could not (?:resolve|validate) (?:authentication|credentials)|incorrect credentials"
    # the region
    r"|user location is not supported|country, region, or territory"
    r"|not (?:available|supported|offered) in your (?:country|region|location|area)"
    # the account
    r"|(?:account|organi[sz]ation|project|workspace|subscription)(?: [^.:]{0,40})? "
    r"(?:is|was|has been) (?:\w+ )?(?:disabled|suspended|deactivated|restricted|blocked|inactive"
    r"|banned|terminated|not active)"
    r"|must be verified to|not authori[sz]ed to (?:perform|access|invoke|use)|access is denied"
    r"|explicit deny|operation not allowed|use case details have not been submitted"
    # the server's set-up of the model
    r"|on-demand throughput|inference profile|provided model identifier"
    r"|(?:you )?(?:don't|do not) have access to the model|unable to access model"
    r"|api deployment for this resource|--enable-auto-tool-choice|--tool-call-parser"
    r"|no models? (?:is |are |was |has been )?(?:currently )?loaded|failed to load (?:the )?model"
    r"|model (?:is |was |has |has been )?(?:not (?:currently )?loaded|unloaded|crashed)"
    r"|model has unloaded or crashed|try pulling it first",
    re.IGNORECASE,
)
_MODEL_WORDS = re.compile(
    r"(?:invalid|unknown|unsupported|unrecognized|no such) model\b|not a valid model\b"
    r"|\bmodels?\b[:/\s]*(?:(?:with|named|id|name|identifier)\s+){0,2}\S{0,100}?\s*"
    r"(?:(?:does )?not exist|(?:is |was |could )?not (?:be )?found|is unknown"
    r"|(?:is )?(?:not|no longer) available|has been (?:deprecated|decommissioned|retired)"
    r"|is deprecated|is decommissioned|is not supported[.!]?$)"
    r"|does not work with the specified model|not a chat model"
    r"|requested model is not supported|no (?:available )?(?:channels?|endpoints?|providers?)\b",
    re.IGNORECASE | re.MULTILINE,
)
_UNVERIFIED = "must be verified to"
"""OpenAI's message about organizations; it names the member that they may not use."""
_HEADER_WORDS = re.compile(
    r"\bheaders?\b[^.]{0,40}(?:too (?:large|long|big|many)|size|exceeds? )"
    r"|(?:large|long|big|many|size of) headers",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"(?<!\w)(?:'[^'\n]{0,400}'|\"[^\"\n]{0,400}\"|`[^`\n]{0,400}`)(?!\w)")


def _any(pattern: re.Pattern[str], codes: set[str]) -> bool:
    return any(pattern.fullmatch(code) for code in codes)


def unquoted(text: str) -> str:
    """`text` without quoted parts."""
    return _QUOTED.sub(" ", text)


def is_rate(error: ErrorBody) -> bool:
    """Whether the cause is a rate limit of requests or tokens."""
    if _any(_RATE_CODES, error.codes):
        return True
    return _RATE_WORDS.search(unquoted(error.text)) is not None


def vetoes_overflow(error: ErrorBody) -> bool:
    """Whether words of a context overflow mean a rate limit."""
    return is_rate(error) or _QUOTA_WORDS.search(error.text) is not None


def is_beyond_rate(error: ErrorBody) -> bool:
    """Whether the request alone exceeds the rate limit ("Limit 6000, Requested 9000").

    It can never succeed; smaller requests may.
    """
    found = _BEYOND.search(unquoted(error.text))
    if found is None:
        return False
    limit, asked = (int(number.replace(",", "")) for number in found.groups())
    return asked > limit


def is_unpaid(error: ErrorBody) -> bool:
    """Whether the operator's account is unpaid."""
    words = _UNPAID_WORDS.search(unquoted(error.text))
    return words is not None or _any(_UNPAID_CODES, error.codes)


def is_filtered(error: ErrorBody) -> bool:
    """Whether a content filter refused the prompt."""
    words = _FILTERED_WORDS.search(unquoted(error.text))
    return error.flagged or words is not None or _any(_FILTERED_CODES, error.codes)


def is_operators(error: ErrorBody, at_fault: str | None) -> bool:
    """Whether the operator's key, account, region or model name is at fault.

    at_fault: the request's member that the refusal names, if any; the model's name is the
    operator's.
    """
    if is_of_model(error, at_fault) or any(
        _any(codes, error.codes) for codes in (_OPERATOR_CODES, _UNPAID_CODES)
    ):
        return True
    text = unquoted(error.text)
    if at_fault is not None:  # the words describe that member
        return _UNVERIFIED in text
    return any(words.search(text) for words in (_OPERATOR_WORDS, _UNPAID_WORDS))


def is_of_model(error: ErrorBody, at_fault: str | None) -> bool:
    """Whether the model's name is at fault. at_fault: as in `is_operators`."""
    if at_fault == "model" or _any(_MODEL_CODES, error.codes):
        return True
    return at_fault is None and _MODEL_WORDS.search(unquoted(error.text)) is not None


def is_of_headers(error: ErrorBody) -> bool:
    """Whether the headers are too large, not the body."""
    return _HEADER_WORDS.search(error.text) is not None
