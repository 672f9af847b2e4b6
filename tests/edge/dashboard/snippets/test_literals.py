"""Literals read back by the syntaxes themselves."""

import ast
import json
import shlex
import tomllib

from hypothesis import given
from hypothesis import strategies as st

from edge.dashboard.snippets.literals import body, document, string, word

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(TEXT)
def test_string_is_the_same_in_each_syntax(text: str) -> None:
    literal = string(text)
    assert json.loads(literal) == text
    assert ast.literal_eval(literal) == text
    assert tomllib.loads(f"a = {literal}") == {"a": text}
    assert not {"\n", "\u2028", "\u2029"} & set(literal)


@given(TEXT)
def test_word_and_body_are_one_word_each(text: str) -> None:
    assert shlex.split(word(text)) == [text]
    (written,) = shlex.split(body({"a": text}))
    assert json.loads(written) == {"a": text}


def test_document_is_a_file_of_json() -> None:
    assert document({"a": ["é"]}) == '{\n  "a": [\n    "é"\n  ]\n}\n'
