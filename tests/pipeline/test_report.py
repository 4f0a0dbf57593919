"""The report is one file that opens anywhere and shows what happened."""

import re
from pathlib import Path

import pytest

from manifests.shard_set import ShardSet
from manifests.storage.local import LocalStore
from pipeline.config import load_config
from pipeline.generating import begin, finish, run
from pipeline.overview import MAX_SAMPLE, _spread, duration, overview
from pipeline.report import write_report
from pipeline.showing import half_blocks
from tests.running import write_captions
from tests.sets import begin as begin_set
from tests.sets import commit


def make_set(folder: Path, *, paired: bool = False, **trouble: str) -> ShardSet:
    for kind, caption in trouble.items():
        (folder / kind).write_text(caption)
    flags = {
        "prompts.file": str(write_captions(folder, ["ant & bee", "cat", "dog"])),
        "views.per_subject": 4,
        "views.paired": paired,
        "renderer.guidance": (1.0, 3.0),
        "shards.subjects": 1,
        "renderer.name": "tests.renderers:Faulty",
        "renderer.trouble": str(folder),
        "execution.executor": "inline",
    }
    generation = begin(load_config(recipe=None, overrides=[], flags=flags), str(folder / "set"))
    for _ in run(generation):
        pass
    finish(generation, seal_incomplete=False)
    return generation.shards


def test_report_is_self_contained_and_shows_every_group(tmp_path: Path) -> None:
    html = write_report(make_set(tmp_path), num_groups=10)
    assert html.count("<img ") == 12
    assert len(re.findall('src="data:image/png;base64,', html)) == 12
    assert "ant &amp; bee" in html
    assert "guidance_scale 1<" in html
    assert "guidance_scale 3<" in html
    assert not re.search(r'(src|href)="(?!data:)', html)


def test_report_names_failed_views_and_shards(tmp_path: Path) -> None:
    shards = make_set(tmp_path, blank="cat", nan="ant & bee", memory="dog")
    html = write_report(shards, num_groups=10)
    assert "4 blank" in html
    assert "4 non-finite" in html
    assert "1 shards were given up" in html
    assert "smaller --batch-size" in html


def test_rows_that_failed_carry_their_reason(tmp_path: Path) -> None:
    shards = make_set(tmp_path, blank="cat", nan="ant & bee")
    reasons = [shards.manifest(shard).rows[0].reason for shard in range(3)]
    assert reasons == ["non-finite", "blank", ""]


def test_overview_counts_what_is_committed(tmp_path: Path) -> None:
    summary = overview(make_set(tmp_path, memory="dog"))
    assert (summary.num_committed, summary.num_shards, summary.num_ok) == (2, 3, 8)
    assert list(summary.given_up) == [2]
    assert not summary.is_sealed
    assert summary.views_per_s
    assert summary.left_s == 0


def test_a_paired_set_is_shown_as_a_sweep_row_by_row(tmp_path: Path) -> None:
    """Each row is one draw of the noise, so what differs along it is the variation alone."""
    shards = make_set(tmp_path, paired=True)
    html = write_report(shards, num_groups=1)
    sheet = html.split("<table>")[1].split("</table>")[0]
    rows = [re.findall(r"_00[0-9], seed ([0-9]+)", row) for row in sheet.split("<tr>")[2:]]
    assert [len(row) for row in rows] == [2, 2]
    assert rows[0][0] == rows[0][1] != rows[1][0] == rows[1][1]


def test_a_kill_between_manifest_and_statistics_changes_no_count(tmp_path: Path) -> None:
    """Statistics are advisory: any of them may be missing, cut or hostile."""
    shards = make_set(tmp_path)
    stats = sorted((tmp_path / "set/stats").iterdir())
    for content in (b"", b"[]", b"{", b"[" * 100_000, b'{"num_views": "x", "host": 3}', None):
        for path in stats:
            path.unlink(missing_ok=True)
            if content is not None:
                path.write_bytes(content)
        summary = overview(shards)
        assert (summary.num_ok, summary.num_views, summary.tar_bytes) == (12, 12, 61440)
        assert (summary.views_per_s, summary.hosts) == (None, {})
        assert write_report(shards, num_groups=1)


class Counting(LocalStore):
    """Counts its calls."""

    num_calls = 0

    def read(self, path: str, *, max_bytes: int = 1 << 30) -> bytes:
        self.num_calls += 1
        return super().read(path, max_bytes=max_bytes)

    def list(self, folder: str = "") -> dict[str, int]:
        self.num_calls += 1
        return super().list(folder)


def test_a_large_open_set_is_read_by_a_sample(tmp_path: Path) -> None:
    captions = [f"a fox on hill {number}" for number in range(3 * MAX_SAMPLE)]
    shards = begin_set(tmp_path, captions, subjects_per_shard=1)
    made = [*range(0, 2 * MAX_SAMPLE)]
    for shard in made:
        commit(shards, shard)
    store = Counting(str(tmp_path))
    summary = overview(ShardSet(store))
    # Recipe, seal, three listings; and of each shard in the sample its manifest and statistics.
    assert store.num_calls <= 5 + 2 * MAX_SAMPLE
    assert (summary.num_committed, summary.num_views) == (len(made), 2 * len(made))
    assert summary.num_sampled == MAX_SAMPLE
    assert not summary.is_exact
    # One view of the second shard fails in these sets, and that one is not in the sample.
    assert summary.num_ok == 2 * len(made)
    sizes = shards.store.list("data")
    assert summary.tar_bytes == pytest.approx(sum(sizes.values()), rel=0.01)


@pytest.mark.parametrize("count", [1, 40, 41, 100, 12_345])
def test_a_sample_has_the_first_and_the_last_shard(count: int) -> None:
    numbers = [*range(4, 4 + count)]
    sample = _spread(numbers, 40)
    assert (sample[0], sample[-1]) == (numbers[0], numbers[-1])
    assert len(sample) == min(count, 40)
    assert sample == sorted(set(sample))


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"[" * 100_000, b'{"errors": 3}', b'{"errors": []}']
)
def test_a_damaged_note_on_a_failure_is_named(tmp_path: Path, content: bytes) -> None:
    shards = make_set(tmp_path, memory="dog")
    (tmp_path / "set/failed/000002-000.json").write_bytes(content)
    assert overview(shards).given_up == {2: ["failed/000002-000.json does not say why"]}


def test_a_damaged_picture_leaves_a_hole_in_the_sheet(tmp_path: Path) -> None:
    shards = make_set(tmp_path)
    tar = tmp_path / "set/data/000000.tar"
    data = tar.read_bytes().replace(b"IDAT", b"XDAT")
    tar.write_bytes(data)
    html = write_report(shards, num_groups=3)
    assert html.count("<img ") == 8
    assert html.count(">damaged</i>") == 4


def test_picture_becomes_half_blocks() -> None:
    import numpy as np

    text = half_blocks(np.zeros((4, 6, 3), dtype=np.uint8), width=80)
    assert text.plain == "\u2580" * 6 + "\n" + "\u2580" * 6 + "\n"


def test_hours_and_bytes_are_counted_and_estimated(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "part").mkdir()
    whole = overview(make_set(tmp_path / "whole"))
    assert whole.device_hours is not None
    assert whole.device_hours > 0
    assert (whole.device_hours_left, whole.bytes_left, whole.on_gpu) == (0, 0, False)
    part = make_set(tmp_path / "part")
    for folder in ("manifests", "stats"):
        for path in sorted((tmp_path / "part/set" / folder).iterdir())[1:]:
            path.unlink()
    (tmp_path / "part/set/dataset.json").unlink(missing_ok=True)
    summary = overview(part)
    assert summary.bytes_left == 2 * summary.tar_bytes
    assert summary.device_hours_left == pytest.approx(2 * (summary.device_hours or 0))


@pytest.mark.parametrize(
    ("hours", "price", "text"),
    [
        (12.344, None, "12.34 hours"),
        (12.344, 2.5, "12.34 hours (cost 30.86)"),
        (0.05, None, "3 minutes"),
        (0, 2.5, "0 minutes (cost 0.00)"),
    ],
)
def test_a_duration_reads_well(hours: float, price: float | None, text: str) -> None:
    assert duration(hours, price) == text
