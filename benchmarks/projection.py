"""What a set of a billion views takes of a driver, by rates that were measured on smaller sets."""

from dataclasses import dataclass

VIEWS_PER_SUBJECT, SUBJECTS_PER_SHARD = 10, 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Measured; each is taken to be the same for a larger set."""

    plan_s: float
    """Seconds to read, merge and plan a caption."""
    driver_cpu_s: float
    """CPU of the driver for a shard, while others make it."""
    seal_cpu_s: float
    """CPU of sealing a shard of as many views as the projected ones."""
    resume_s: float
    """Seconds for a shard until a run that was ended knows what is left to make."""
    requests: float
    """To a bucket for a shard, its part of the seal included."""


def projection(num_views: int, rates: Rates) -> dict[str, float]:
    """Each rate times the captions or shards that so many views are.

    Rendering is left out: its hours depend on the model, and are divided by the workers.
    """
    num_captions = num_views / VIEWS_PER_SUBJECT
    num_shards = num_captions / SUBJECTS_PER_SHARD
    return {
        "views": num_views,
        "captions": num_captions,
        "shards": num_shards,
        "plan_hours": num_captions * rates.plan_s / 3600,
        "driver_cpu_hours": num_shards * rates.driver_cpu_s / 3600,
        "seal_cpu_hours": num_shards * rates.seal_cpu_s / 3600,
        "resume_s": num_shards * rates.resume_s,
        "requests": num_shards * rates.requests,
    }
