"""The report is one file that opens anywhere and shows what happened."""

import re
from pathlib import Path

import pytest

from manifests.seal_writer import seal_set
from manifests.shard_set import ShardSet
from manifests.storage.local import LocalStore
from pipeline.config import load_config
from pipeline.generating import begin, finish, run
from pipeline.group_cards import MAX_DRAWS
from pipeline.overview import MAX_SAMPLE, duration, overview, spread
from pipeline.report import MAX_STATISTICS, write_report
from pipeline.sampling import MAX_SHARDS
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


def pictures(html: str) -> list[str]:
    """Keys of the views whose pictures are in the page, in their order."""
    return re.findall('<img src="data:image/png;base64,[^"]+" alt="view ([0-9_]+)">', html)


def test_report_is_self_contained_and_shows_every_view(tmp_path: Path) -> None:
    html = write_report(make_set(tmp_path), num_groups=10)
    assert sorted(pictures(html)) == [f"{n:09d}_{view:03d}" for n in range(3) for view in range(4)]
    assert "ant &amp; bee" in html
    assert "guidance scale 1, 3" in html
    assert not re.search(r'(src|href)="(?!data:|#)', html)
    assert "<script" not in html
    assert "default-src 'none'; img-src data:" in html


def test_report_says_how_to_see_a_view_again(tmp_path: Path) -> None:
    html = write_report(make_set(tmp_path), num_groups=10)
    show = f"synth show {tmp_path / 'set'} 000000002_003"
    assert f">{show}</code>" in html
    assert f">{show} --render --trust tests.renderers:Faulty</code>" in html


def test_report_has_failures_only_where_there_are_some(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "bad").mkdir()
    assert "Failures" not in write_report(make_set(tmp_path / "good"), num_groups=10)
    shards = make_set(tmp_path / "bad", blank="cat", nan="ant & bee", memory="dog")
    html = write_report(shards, num_groups=10)
    assert "8 views failed; 4 non-finite, 4 blank" in html
    assert "1 part of the set was given up" in html
    assert "smaller --batch-size" in html
    assert pictures(html) == []
    assert html.count('class="fault"') == 8
    assert "How much views differ" not in html


def test_report_of_a_set_without_a_view_is_whole(tmp_path: Path) -> None:
    html = write_report(begin_set(tmp_path), num_groups=3)
    assert "No views are made yet" in html
    assert html.rstrip().endswith("</html>")


def test_report_of_one_view_is_whole(tmp_path: Path) -> None:
    shards = begin_set(
        tmp_path, ["a red fox"], views_per_subject=1, variations=[{"guidance_scale": 1.0}]
    )
    commit(shards, 0)
    seal_set(shards)
    html = write_report(shards, num_groups=24)
    assert "<h1>1 caption × 1 view, drawn by <em>easel</em></h1>" in html
    assert pictures(html) == ["000000000_000"]


def test_report_says_how_many_views_of_a_group_it_shows(tmp_path: Path) -> None:
    shards = begin_set(tmp_path, views_per_subject=20)
    commit(shards, 0)
    html = write_report(shards, num_groups=24)
    assert html.count(f"{2 * MAX_DRAWS} of 20 shown") == 2
    assert len(pictures(html)) == 2 * 2 * MAX_DRAWS - 1  # one view has failed


def test_report_says_that_a_set_was_closed_with_parts_missing(tmp_path: Path) -> None:
    shards = begin_set(tmp_path)
    commit(shards, 0)
    seal_set(shards, incomplete=True)
    html = write_report(shards, num_groups=1)
    assert "<dd>closed</dd><dt>with 1 tar file missing; nothing will change any more</dt>" in html


@pytest.mark.parametrize(
    ("caption", "shown"),
    [
        ('<img src=x onerror="alert(1)">', "&lt;img src=x onerror=&#34;alert(1)&#34;&gt;"),
        ("{{ 7 * 7 }} {% raw %}", "{{ 7 * 7 }} {% raw %}"),
        ("a fox \u202e\x1b[31m [/]", "a fox \\u202e\\x1b[31m [/]"),
    ],
)
def test_report_shows_a_hostile_caption_as_text(tmp_path: Path, caption: str, shown: str) -> None:
    shards = begin_set(tmp_path, [caption, "a blue door"])
    commit(shards, 0)
    html = write_report(shards, num_groups=2)
    assert f">{shown}</h3>" in html
    assert html.count("<img ") == len(pictures(html)) == 3


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
    html = write_report(make_set(tmp_path, paired=True), num_groups=1)
    assert "The same noise, another guidance scale" in html
    views = re.findall("guidance scale ([0-9]) · seed ([0-9]+)", html)
    assert [scale for scale, _ in views] == ["1", "3", "1", "3"]
    seeds = [seed for _, seed in views]
    assert seeds[0] == seeds[1] != seeds[2] == seeds[3]


def test_report_measures_how_much_views_of_a_group_differ(tmp_path: Path) -> None:
    html = write_report(make_set(tmp_path), num_groups=10)
    assert 'aria-label="distance of views by guidance scale"' in html
    assert "mean ± half of a 95 % interval over 3 groups" in html


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


def test_report_of_a_large_set_reads_a_part_and_says_so(tmp_path: Path) -> None:
    captions = [f"a fox on hill {number}" for number in range(2 * MAX_SHARDS)]
    shards = begin_set(tmp_path, captions, subjects_per_shard=1)
    for shard in range(2 * MAX_SHARDS):
        commit(shards, shard)
    seal_set(shards)
    store = Counting(str(tmp_path))
    html = write_report(ShardSet(store), num_groups=5)
    # The one shard with a failed view is read besides, as the seal names it. Pictures are read as
    # ranges of bytes, and are not counted here.
    text = f"come from {2 * MAX_SHARDS + 2} views in {MAX_SHARDS + 1} of {2 * MAX_SHARDS} tar files"
    assert text in html
    assert "1 view failed; 1 blank" in html
    assert store.num_calls <= 10 + (MAX_SHARDS + 1) + MAX_SAMPLE + MAX_STATISTICS
    assert "5 of 80 captions, drawn at random" in html


@pytest.mark.parametrize("count", [1, 40, 41, 100, 12_345])
def test_a_sample_has_the_first_and_the_last_shard(count: int) -> None:
    numbers = [*range(4, 4 + count)]
    sample = spread(numbers, 40)
    assert (sample[0], sample[-1]) == (numbers[0], numbers[-1])
    assert len(sample) == min(count, 40)
    assert sample == sorted(set(sample))
    assert spread(numbers, 1) == [4]  # of very large shards, one is read


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
    assert len(pictures(html)) == 8
    assert html.count(">damaged</span>") == 4


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
        (0.005, None, "18 seconds"),
        (0, 2.5, "less than two seconds (cost 0.00)"),
    ],
)
def test_a_duration_reads_well(hours: float, price: float | None, text: str) -> None:
    assert duration(hours, price) == text
