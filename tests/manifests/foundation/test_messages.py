import pickle

import pytest

from manifests.foundation.errors import SynthError
from manifests.foundation.markup import as_text
from manifests.foundation.messages import (
    has_secrets,
    hiding,
    one_line,
    printable,
    redact,
    without_folders,
)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://KEY:SECRET@bucket/set", "s3://bucket/set"),
        ("s3://KEY:SEC/RET@bucket/set", "s3://bucket/set"),
        ("s3://KEY:S@CRET@bucket/set", "s3://bucket/set"),
        ("sftp://user@host/set", "sftp://host/set"),
        ("zip://a.zip::s3://KEY:SECRET@bucket/set", "zip://bucket/set"),
        ("pipe:curl https://KEY:SECRET@host/a.tar", "pipe:curl https://host/a.tar"),
        ("https://host/a.tar?sig=SECRET&se=1", "https://host/a.tar"),
        ("hf://datasets/some/set@main/data", "hf://datasets/some/set@main/data"),
        ("s3://bucket/set", "s3://bucket/set"),
        ("s3:/KEY:SECRET@bucket/set", "s3:/bucket/set"),
        ("--out s3:/KEY:SEC/RET@bucket/set: no", "--out s3:/bucket/set: no"),
        ("az:/container/x?sig=SECRET", "az:/container/x"),
        ("imagefolder:https:/KEY:SECRET@host/x", "imagefolder:https:/host/x"),
        ("wds:/folder/what?", "wds:/folder/what?"),
        ("HTTPS://host/x?sig=SECRET", "HTTPS://host/x"),
        ("az://container/x?sig=SECRET", "az://container/x"),
        ("s3://bucket/x?X-Amz-Signature=SECRET", "s3://bucket/x"),
        ("webhdfs://host/x?token=SECRET", "webhdfs://host/x"),
        ("https://host/x#SECRET", "https://host/x"),
        ("wds:https://KEY:SECRET@host/x", "wds:https://host/x"),
        (
            "two: s3://KEY:SECRET@b/x, 'http://h/y?sig=SECRET'; no such file",
            "two: s3://b/x, 'http://h/y'; no such file",
        ),
        ("/folder/a@b:c/what?", "/folder/a@b:c/what?"),
    ],
)
def test_credentials_are_cut_out_of_urls(url: str, expected: str) -> None:
    assert redact(url) == expected


@pytest.mark.parametrize("text", ["a.", "a:", "s3:/", "s3://", "s3://a:", "@", ":/a@"])
def test_long_text_takes_linear_time(text: str) -> None:
    """A pattern that starts anew at each character would take minutes for these texts."""
    assert len(redact(text * 200_000)) <= len(text) * 200_000
    with hiding([text * 200_000]):
        pass


def test_an_error_of_ours_never_holds_a_secret() -> None:
    error = SynthError("https://KEY:SECRET@host/x?sig=SECRET: no such file; look at the address")
    assert str(error) == "https://host/x: no such file; look at the address"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_another_library_is_quoted_in_one_line_unless_the_url_holds_a_secret() -> None:
    exc = ValueError("bad bucket KEY:SECRET@bucket\n  see the manual")
    assert one_line(exc, about="s3://bucket/set") == "bad bucket KEY:SECRET@bucket see the manual"
    assert one_line(exc, about="s3://KEY:SECRET@bucket/set") == "ValueError"
    assert one_line(ValueError()) == "ValueError"
    assert len(one_line(ValueError("x" * 1000))) == 300
    assert has_secrets("az://c/x?sig=1")
    assert not has_secrets("az://c/x")


def test_secrets_outside_of_a_url_are_hidden_only_inside_the_block() -> None:
    text = "Invalid bucket name 'KEY:PASSWORD@bucket', query {'sig': 'SIGNATURE+'}, seen 2"
    with hiding(["--on", "wds:s3://KEY:PASSWORD@bucket/x?sig=SIGNATURE%2B&n=2", "plain"]):
        hidden = "Invalid bucket name 'KEY:***@bucket', query {'sig': '***'}, seen 2"
        assert redact(text) == hidden
        assert str(SynthError(text)) == hidden
    assert redact(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Füchse, 狐, 🦊\u200d🔥 [bold]\\n", "Füchse, 狐, 🦊\u200d🔥 [bold]\\n"),
        ("a\x1b[31m\tb\r\n\x07\x7f\x9b", r"a\x1b[31m\tb\r\n\x07\x7f\x9b"),
        ("a\u2028b\u202ec\ud800", r"a\u2028b\u202ec\ud800"),
    ],
)
def test_control_characters_become_escapes(text: str, expected: str) -> None:
    assert printable(text) == expected


@pytest.mark.parametrize(
    ("place", "shown"),
    [
        ("/home/me/sets/one", "one"),
        ("~/sets/one/", "one"),
        ("file:///home/me/one", "one"),
        ("wds:/home/me/one", "wds:one"),
        ("/home/me/style.safetensors:0.8", "style.safetensors:0.8"),
        ("s3://key:secret@bucket/set", "s3://bucket/set"),
        ("wds:s3://bucket/set", "wds:s3://bucket/set"),
        ("sets/one", "sets/one"),
        ("owner/name@revision", "owner/name@revision"),
        ("a fox: red", "a fox: red"),
        ("", ""),
    ],
)
def test_of_a_path_on_this_machine_its_last_part_is_given_away(place: str, shown: str) -> None:
    assert without_folders(place) == shown


def test_text_in_markdown_marks_nothing_up() -> None:
    text = as_text("<b>|[a](b) *c* _c_ ~d~ `d` \\ \x1b[1m")
    assert text == r"&lt;b&gt;\|\[a\](b) \*c\* \_c\_ \~d\~ \`d\` \\ \\x1b\[1m"
