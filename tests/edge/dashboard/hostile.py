"""Texts that try to become markup, script or a request of htmx."""

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    '"><script>alert(1)</script>',
    "'><script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "' onfocus='alert(1)' autofocus='",
    "javascript:alert(1)",
    "<a href=javascript:alert(1)>x</a>",
    "<p hx-get=/app/sign-out hx-trigger=load>",
    '<p hx-post="/app/sign-out" hx-trigger="load">',
    "<p hx-on:load=alert(1)>",
    "{{ 7 * 7 }}",
    "{% raw %}",
    "<style>*{display:none}</style>",
    "<base href=//evil.test>",
    "<meta http-equiv=refresh content=0;url=//evil.test>",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<!--<textarea></title></style><img src=x onerror=alert(1)>",
)
"""Each can be the name of a key, an owner, a model, a file or a browser."""

TRACES = (
    *("<script>", "<img src=x", "<svg/onload", "<p hx-", "<style>*", "<base", "<iframe"),
    *("<meta http-equiv", "<a href=javascript", '" onmouseover="', "' onfocus='", ">49<"),
)
"""What is in a page where one of them was not escaped."""
