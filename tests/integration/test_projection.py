from benchmarks.projection import Rates, projection


def test_a_projection_multiplies_rates_by_captions_and_shards() -> None:
    """Ten views of a caption, 100 captions in a shard."""
    rates = Rates(
        plan_s=0.0001, driver_cpu_s=0.0005, seal_cpu_s=0.036, resume_s=0.00001, requests=6
    )
    assert projection(10**9, rates) == {
        "views": 10**9,
        "captions": 10**8,
        "shards": 10**6,
        "plan_hours": 10_000 / 3600,
        "driver_cpu_hours": 500 / 3600,
        "seal_cpu_hours": 10,
        "resume_s": 10,
        "requests": 6 * 10**6,
    }
