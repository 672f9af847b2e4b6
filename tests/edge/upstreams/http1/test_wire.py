"""The heads of requests."""

from hypothesis import given
from hypothesis import strategies as st

from edge.upstreams import Header, Request
from edge.upstreams.http1.wire import HeadEncoder, RequestHead, encode_head

_HOST = b"host: a\r\n"
_HEADERS: list[tuple[Header, ...]] = [
    (),
    ((b"authorization", b"Bearer k"), (b"content-type", b"application/json")),
    ((b"x-note", b"content-length: 7"), (b"expect", b"100-continue")),
    ((b"connection", b"close"),),
    ((b"x-bad", b"a\r\nb: c"),),
    ((b"Upper", b"1"),),
    ((b"content-length", b"5"),),
]
_REQUESTS = st.builds(
    Request,
    method=st.sampled_from((b"POST", b"GET", b"HEAD", b"CONNECT", b"P T")),
    target=st.sampled_from((b"/v1/chat", b"/v1/other", b"/a b", b"no-slash")),
    headers=st.sampled_from(_HEADERS),
    body=st.sampled_from((None, b"", b"{}", b"x" * 1000)),
)


def _outcome(encode: object) -> RequestHead | str:
    try:
        return encode()  # type: ignore[operator, no-any-return]
    except ValueError as refused:
        return str(refused)


@given(st.lists(_REQUESTS, max_size=12))
def test_head_encoder_any_order_of_requests_as_encode_head(requests: list[Request]) -> None:
    encoder = HeadEncoder(_HOST)
    for request in requests:
        for _ in range(2):
            ours = _outcome(lambda request=request: encoder.encode(request))
            assert ours == _outcome(lambda request=request: encode_head(request, _HOST))


def test_head_encoder_same_headers_only_the_length_changes() -> None:
    encoder = HeadEncoder(_HOST)
    for body in (b"{}", b"x" * 1234, b""):
        request = Request(b"POST", b"/v1/chat", _HEADERS[2], body)
        assert encoder.encode(request) == encode_head(request, _HOST)
