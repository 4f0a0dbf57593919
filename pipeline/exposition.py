"""The progress of a set as metrics of Prometheus, read from storage alone.

A textfile that node_exporter collects works alike for Ray, Slurm and a driver that is dead.
"""

from prometheus_client import CollectorRegistry, Gauge

from pipeline.overview import Overview


def exposition(url: str, num_planned: int, summary: Overview) -> CollectorRegistry:
    """Metrics of one set, each with its URL as the label `set`.

    Args:
        url: Of the set, without secrets.
        num_planned: Views that its plan asks for.
        summary: What is made of it. What it does not know has no metric.
    """
    registry = CollectorRegistry()

    def put(name: str, meaning: str, value: float | None, **labels: str) -> None:
        if value is None:
            return
        gauge = gauges.get(name)
        if gauge is None:
            gauge = gauges[name] = Gauge(name, meaning, ["set", *labels], registry=registry)
        gauge.labels(url, *labels.values()).set(value)

    gauges: dict[str, Gauge] = {}
    shards = {
        "planned": summary.num_shards,
        "committed": summary.num_committed,
        "given_up": len(summary.given_up),
    }
    for state, count in shards.items():
        put("synth_shards", "Shards by state.", count, state=state)
    views = {"planned": num_planned, "made": summary.num_views, "good": summary.num_ok}
    for state, count in views.items():
        put("synth_views", "Views by state; good ones by estimate.", count, state=state)
    for reason, count in summary.reasons.items():
        put("synth_failed_views", "Failed views of the sample.", count, reason=reason)
    for host, rate in summary.hosts.items():
        meaning = "Views a second of one worker while it renders."
        put("synth_host_views_per_second", meaning, rate, host=host)
    for phase, seconds in summary.seconds.items():
        put("synth_worker_seconds", "Of all workers, by what they did.", seconds, phase=phase)
    put("synth_failed_attempts", "At shards of the sample.", summary.failed_attempts)
    put("synth_storage_repeats", "Calls made again, of the sample.", summary.storage_repeats)
    put("synth_tar_bytes", "Bytes of tars.", summary.tar_bytes)
    put("synth_views_per_second", "Rate of all workers together.", summary.views_per_s)
    put("synth_left_seconds", "Until the last shard, at this rate.", summary.left_s)
    put("synth_device_hours", "Rendering so far.", summary.device_hours)
    put("synth_device_hours_left", "Rendering to come.", summary.device_hours_left)
    put("synth_sealed", "1 for a set that is sealed.", summary.is_sealed)
    return registry
