import http.server
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prompts import reading
from prompts.errors import BadPromptError, UnreadablePromptsError
from prompts.prompt import Prompt
from tests.sets import refused

ROWS: list[dict[str, Any]] = [
    {
        "caption": "a red fox, at night",
        "label": "fox",
        "licence": "CC0-1.0",
        "source": "https://example.org/1",
        "negative_prompt": "blurred",
    },
    {"caption": 'a "blue" café', "label": "", "licence": "", "source": "", "negative_prompt": ""},
]


def parquet(rows: list[dict[str, Any]], schema: pa.Schema | None = None) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), file)
    return file.getvalue()


def json_lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode()


TABLES = {
    "list.csv": (
        "caption,label,licence,source,negative_prompt\n"
        '"a red fox, at night",fox,CC0-1.0,https://example.org/1,blurred\n'
        '"a ""blue"" café",,,,\n'
    ).encode(),
    "list.tsv": (
        "caption\tlabel\tlicence\tsource\tnegative_prompt\n"
        "a red fox, at night\tfox\tCC0-1.0\thttps://example.org/1\tblurred\n"
        '"a ""blue"" café"\t\t\t\t\n'
    ).encode(),
    "list.jsonl": json_lines(ROWS),
    "list.parquet": parquet(ROWS),
}


def put(folder: Path, name: str, data: bytes | str) -> str:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return str(path)


def read_prompts(url: str, **options: Any) -> list[Prompt]:
    return list(reading.read_prompts(url, **options))


def captions(url: str) -> list[str]:
    return [prompt.caption for prompt in read_prompts(url)]


@pytest.mark.parametrize("name", TABLES)
def test_every_table_gives_the_same_prompts(tmp_path: Path, name: str) -> None:
    path = put(tmp_path, name, TABLES[name])
    fox, door = read_prompts(path, value_columns=["negative_prompt", "mood"])
    columns = {key: value for key, value in ROWS[0].items() if key != "negative_prompt"}
    values = {"negative_prompt": "blurred", "mood": ""}
    assert fox == Prompt(**columns, values=values, where=f"{path}, row 1")
    values = {"negative_prompt": "", "mood": ""}
    where = f"{path}, row 2"
    assert door == Prompt(caption='a "blue" café', values=values, where=where)
    assert [prompt.values for prompt in read_prompts(path)] == [{}, {}]


def test_a_text_file_has_a_caption_a_line(tmp_path: Path) -> None:
    path = put(tmp_path, "list.txt", "a red fox\n\n  a blue door \n")
    assert read_prompts(path) == [
        Prompt(caption="a red fox", where=f"{path}, row 1"),
        Prompt(caption="  a blue door ", where=f"{path}, row 3"),
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_of_every_system(tmp_path: Path, end: str) -> None:
    assert captions(put(tmp_path, "a.txt", f"one{end}two{end}")) == ["one", "two"]
    assert captions(put(tmp_path, "a.csv", f"caption{end}one{end}two{end}")) == ["one", "two"]


def test_json_lines_of_windows(tmp_path: Path) -> None:
    data = b'{"caption": "one"}\r\n\r\n{"caption": "two"}\r\n'
    assert captions(put(tmp_path, "a.jsonl", data)) == ["one", "two"]


# str.splitlines() would split at each of these.
@pytest.mark.parametrize("separator", ["\u2028", "\x0b", "\x0c", "\x85"])
def test_only_the_end_of_a_line_ends_a_caption(tmp_path: Path, separator: str) -> None:
    path = put(tmp_path, "a.txt", f"a red{separator}fox\na blue door\n")
    assert captions(path) == [f"a red{separator}fox", "a blue door"]


@pytest.mark.parametrize("name", ["list.csv", "list.tsv", "list.jsonl"])
def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path, name: str) -> None:
    path = put(tmp_path, name, b"\xef\xbb\xbf" + TABLES[name])
    assert captions(path) == ["a red fox, at night", 'a "blue" café']
    assert captions(put(tmp_path, "a.txt", b"\xef\xbb\xbfa red fox")) == ["a red fox"]


def test_the_last_line_needs_no_end(tmp_path: Path) -> None:
    assert captions(put(tmp_path, "a.txt", "one\ntwo")) == ["one", "two"]
    assert captions(put(tmp_path, "a.csv", "caption\none\ntwo")) == ["one", "two"]


def test_a_quoted_field_may_hold_a_line_end(tmp_path: Path) -> None:
    assert captions(put(tmp_path, "a.csv", 'caption\n"a red\nfox"\n')) == ["a red\nfox"]


def test_a_suffix_in_capitals_is_the_same_format(tmp_path: Path) -> None:
    assert captions(put(tmp_path, "LIST.TXT", "one")) == ["one"]


def test_captions_of_another_column(tmp_path: Path) -> None:
    rows = [{"caption": "not this", "label": "fox", "text": "a red fox"}]
    for name, data in {
        "a.csv": b"caption,label,text\nnot this,fox,a red fox\n",
        "a.jsonl": json_lines(rows),
        "a.parquet": parquet(rows),
    }.items():
        path = put(tmp_path, name, data)
        expected = {"where": f"{path}, row 1"}
        assert read_prompts(path, caption_column="text") == [
            Prompt(caption="a red fox", label="fox", **expected)
        ]
        assert read_prompts(path, caption_column="label") == [Prompt(caption="fox", **expected)]


def test_a_label_may_be_a_number_or_null(tmp_path: Path) -> None:
    rows = [{"caption": "a", "label": 3}, {"caption": "b", "label": None}]
    for name, data in (("a.jsonl", json_lines(rows)), ("a.parquet", parquet(rows))):
        assert [prompt.label for prompt in read_prompts(put(tmp_path, name, data))] == ["3", ""]


def test_other_columns_are_left_alone(tmp_path: Path) -> None:
    rows = [{"caption": "a", "pixels": [1, 2], "score": 0.5}]
    for name, data in (("a.jsonl", json_lines(rows)), ("a.parquet", parquet(rows))):
        assert captions(put(tmp_path, name, data)) == ["a"]


def test_a_caption_may_have_2000_characters(tmp_path: Path) -> None:
    assert captions(put(tmp_path, "a.txt", "é" * 2000)) == ["é" * 2000]
    path = put(tmp_path, "b.txt", f"fine\n{'é' * 2001}\n")
    with refused(
        BadPromptError, f"{path}, row 2", "caption has 2,001 characters", "at most 2,000", "shorten"
    ):
        read_prompts(path)


def test_a_label_that_is_too_long_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path, "a.jsonl", json_lines([{"caption": "a", "label": "x" * 2001}]))
    with refused(BadPromptError, f"{path}, row 1", "label has 2,001 characters", "shorten it"):
        read_prompts(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "list.csv")
    with refused(UnreadablePromptsError, path, "no such file", "give --prompts FILE or URL"):
        read_prompts(path)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "list.csv").mkdir()
    with refused(
        UnreadablePromptsError, f"{tmp_path}/list.csv: is a folder, expected a file", "look at"
    ):
        read_prompts(str(tmp_path / "list.csv"))


@pytest.mark.parametrize("name", ["list.xlsx", "list", "list.txt.gz", "list.json"])
def test_another_format_is_refused_with_those_that_are_read(tmp_path: Path, name: str) -> None:
    path = put(tmp_path, name, "a red fox")
    formats = ".txt, .csv, .tsv, .jsonl, .parquet"
    with refused(UnreadablePromptsError, path, formats, "rename or convert"):
        read_prompts(path)


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.tsv", "a.jsonl", "a.parquet"])
@pytest.mark.parametrize("data", [b"", b" \r\n\n"])
def test_an_empty_file_is_refused(tmp_path: Path, name: str, data: bytes) -> None:
    path = put(tmp_path, name, data)
    with refused(UnreadablePromptsError, path, "is empty, expected at least one caption"):
        read_prompts(path)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.txt", b"\xef\xbb\xbf"),
        ("a.csv", b"caption,label\n"),
        ("a.parquet", parquet([], pa.schema({"caption": pa.string()}))),
    ],
)
def test_a_file_without_a_row_is_refused(tmp_path: Path, name: str, data: bytes) -> None:
    path = put(tmp_path, name, data)
    with refused(UnreadablePromptsError, path, "holds no caption, expected at least one"):
        read_prompts(path)


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.tsv", "a.jsonl"])
def test_a_binary_file_is_refused(tmp_path: Path, name: str) -> None:
    path = put(tmp_path, name, b"caption\nPK\x03\x04\0\0")
    with refused(UnreadablePromptsError, path, "a binary file, expected text in UTF-8"):
        read_prompts(path)


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.tsv", "a.jsonl"])
def test_text_that_is_not_utf_8_is_refused_with_its_line(tmp_path: Path, name: str) -> None:
    path = put(tmp_path, name, b"caption\r\na red fox\r\nun caf\xe9\r\n")
    with refused(UnreadablePromptsError, f"{path}, line 3: not UTF-8 (byte 0xe9)", "iconv"):
        read_prompts(path)


def test_utf_16_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path, "a.txt", "a red fox".encode("utf-16"))
    with refused(UnreadablePromptsError, f"{path}, line 1: not UTF-8 (byte 0xff)", "iconv"):
        read_prompts(path)


@pytest.mark.parametrize("name", TABLES)
def test_a_missing_column_is_refused_with_the_nearest_name(tmp_path: Path, name: str) -> None:
    path = put(tmp_path, name, TABLES[name])
    with refused(
        UnreadablePromptsError,
        path,
        "no column 'captions' among caption, label, licence, source, negative_prompt",
        "give --caption-column; did you mean 'caption'?",
    ):
        read_prompts(path, caption_column="captions")


def test_a_missing_column_without_a_near_name_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", "id,x\n1,2\n")
    with pytest.raises(UnreadablePromptsError, match="no column 'caption' among id, x") as caught:
        read_prompts(path)
    assert "did you mean" not in str(caught.value)


def test_a_column_that_a_later_json_line_lacks_is_refused_with_its_line(tmp_path: Path) -> None:
    path = put(tmp_path, "a.jsonl", '{"caption": "a"}\n{"text": "b"}\n')
    with refused(UnreadablePromptsError, f"{path}, line 2: no column 'caption' among text"):
        read_prompts(path)


@pytest.mark.parametrize("caption", [None, "", "  ", 5, ["a"], {"a": 1}])
def test_a_row_without_a_caption_is_refused_with_its_number(
    tmp_path: Path, caption: object
) -> None:
    path = put(tmp_path, "a.jsonl", json_lines([{"caption": "a"}, {"caption": caption}]))
    with refused(BadPromptError, f"{path}, row 2: the caption is {caption!r}", "fill or remove it"):
        read_prompts(path)


def test_a_null_caption_of_a_table_is_refused_with_its_number(tmp_path: Path) -> None:
    path = put(tmp_path, "a.parquet", parquet([{"caption": "a"}, {"caption": None}]))
    with refused(BadPromptError, f"{path}, row 2: the caption is None", "fill or remove it"):
        read_prompts(path)


@pytest.mark.parametrize("row", ["a red fox, at night,fox", "a red fox"])
def test_a_row_with_another_number_of_fields_is_refused(tmp_path: Path, row: str) -> None:
    path = put(tmp_path, "a.csv", f"caption,label\na,b\n{row}\n")
    with refused(BadPromptError, f"{path}, row 2: has not as many fields", "quote fields"):
        read_prompts(path)


@pytest.mark.parametrize("data", ['caption\n"a red fox\n', 'caption\n"a "red" fox"\n'])
def test_a_quote_that_is_not_closed_is_refused(tmp_path: Path, data: str) -> None:
    path = put(tmp_path, "a.csv", data)
    with refused(UnreadablePromptsError, f"{path}, line 2", "mend the quotes"):
        read_prompts(path)


@pytest.mark.parametrize("line", ["a red fox", "{", "[" * 100_000])
def test_a_line_that_is_not_json_is_refused(tmp_path: Path, line: str) -> None:
    path = put(tmp_path, "a.jsonl", f'{{"caption": "a"}}\n\n{line}\n')
    with refused(UnreadablePromptsError, f"{path}, line 3: not JSON", "write one object a line"):
        read_prompts(path)


def test_a_line_that_is_no_object_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path, "a.jsonl", '["a red fox"]\n')
    with refused(UnreadablePromptsError, f"{path}, line 1: expected a JSON object a line"):
        read_prompts(path)


def test_half_a_surrogate_pair_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path, "a.jsonl", '{"caption": "fox \\ud83e"}\n')
    with refused(BadPromptError, f"{path}, row 1", "half a surrogate pair", "mend the file"):
        read_prompts(path)


@pytest.mark.parametrize("part", [slice(0, 100), slice(10, None), slice(0, -6)])
def test_a_parquet_file_that_was_cut_is_refused(tmp_path: Path, part: slice) -> None:
    path = put(tmp_path, "a.parquet", TABLES["list.parquet"][part])
    with refused(UnreadablePromptsError, path, "not a readable Parquet file", "write it again"):
        read_prompts(path)


def test_a_parquet_file_with_a_broken_footer_is_refused(tmp_path: Path) -> None:
    data = bytearray(TABLES["list.parquet"])
    # A Parquet file ends with the length of its footer, in 4 bytes, and 4 magic bytes.
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    data[start : start + 40] = b"\xff" * 40
    path = put(tmp_path, "a.parquet", bytes(data))
    with refused(UnreadablePromptsError, path, "not a readable Parquet file", "write it again"):
        read_prompts(path)


def test_a_parquet_file_with_text_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    file = io.BytesIO()
    pq.write_table(pa.table({"caption": pa.array([b"caf\xe9"]).view(pa.string())}), file)
    path = put(tmp_path, "a.parquet", file.getvalue())
    with refused(UnreadablePromptsError, path, "not a readable Parquet file", "write it again"):
        read_prompts(path)


@pytest.mark.parametrize(
    "url",
    [
        "pipe:curl https://KEY:SECRET@host/a.txt",
        "simplecache::https://KEY:SECRET@host/a.txt",
        "nowhere://KEY:SECRET@host/a.txt",
        "http://KEY:SECRET@[host/a.txt",
        "https://KEY:SECRET@host/a.xlsx?sig=SECRET",
    ],
)
def test_a_url_that_is_not_read_is_refused_without_its_credentials(url: str) -> None:
    with pytest.raises(UnreadablePromptsError) as caught:
        read_prompts(url)
    message = str(caught.value)
    assert "host/a" in message
    assert "\n" not in message
    assert "SECRET" not in message


def test_chained_and_pipe_urls_are_refused() -> None:
    for url in ("pipe:cat /etc/passwd.txt", "zip://a.txt::/tmp/a.zip.txt"):
        with refused(UnreadablePromptsError, url, "are not read; copy the file"):
            read_prompts(url)


def test_a_file_of_another_scheme_is_read() -> None:
    files = fsspec.filesystem("memory")
    files.pipe_file("/lists/a.txt", b"a red fox\n")
    try:
        (prompt,) = read_prompts("memory://lists/a.txt")
    finally:
        files.rm("/lists", recursive=True)
    assert prompt == Prompt(caption="a red fox", where="memory://lists/a.txt, row 1")


@pytest.fixture
def server() -> Iterator[str]:
    """A web server on this machine that answers only requests with the right signature."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, body = (200, b"a red fox\n") if "?sig=SECRET" in self.path else (403, b"")
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()


def test_a_signed_url_is_read_and_its_signature_is_not_shown(server: str) -> None:
    pytest.importorskip("aiohttp")
    (prompt,) = read_prompts(f"{server}/a.txt?sig=SECRET")
    assert prompt == Prompt(caption="a red fox", where=f"{server}/a.txt, row 1")
    with refused(UnreadablePromptsError, f"{server}/b.txt: ", "give --prompts FILE or URL"):
        read_prompts(f"{server}/b.txt")
