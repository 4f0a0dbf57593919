"""Plain Ray actors, one per GPU (or per core), fed by this driver.

The driver owns the queue, and storage knows what is done. Ray never restarts an actor and never
repeats a call, and no pixels pass through it (docs/adr/0005). What has to be known of Ray 2.60:

- It starts its agents even without a dashboard; usage reports and metrics are switched off here.
- It binds to the machine's own address; a local cluster is bound to loopback (`LOOPBACK`).
- A cluster may ask for a token. A driver that joins sends its token only with
  `RAY_AUTH_MODE=token`, so that is set whenever this machine has a token (`RAY_AUTH_TOKEN`,
  `RAY_AUTH_TOKEN_PATH` or `~/.ray/auth_token`).
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

# Ray reads these variables when it is imported, and it is imported below: when it is to run.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_enable_metrics_collection", "0")
# Ray gives its workers a low priority; here they are the job itself.
os.environ.setdefault("RAY_worker_niceness", "0")
# A worker on the CPU keeps the CUDA_VISIBLE_DEVICES that it inherits.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# Ask often whether a node lives, but wait a minute for the answer: a busy machine is not dead.
os.environ.setdefault("RAY_health_check_period_ms", "1000")
os.environ.setdefault("RAY_health_check_timeout_ms", "60000")
os.environ.setdefault("RAY_health_check_failure_threshold", "5")
if {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & {*os.environ} or (
    Path.home() / ".ray" / "auth_token"
).exists():
    os.environ.setdefault("RAY_AUTH_MODE", "token")

from pydantic import Field

from manifests.foundation.errors import ConfigError, PluginError
from manifests.foundation.settings import Table
from pipeline.errors import ExecutorError
from pipeline.job import Job
from pipeline.retrying import ShardFailure, WorkQueue
from pipeline.shard_report import ShardReport, Underway
from pipeline.stopping import KINDS

LOOPBACK = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"
"""On Linux another loopback address, because Ray replaces 127.0.0.1 by the machine's own address,
where other machines could reach the cluster."""
OBJECT_STORE_BYTES = 100 << 20
"""Small, because only the job, attempts and reports pass through the object store."""


class RayConfig(Table):
    """Table [execution] of a recipe."""

    executor: Literal["ray"] = "ray"
    workers: int | None = Field(default=None, ge=1)
    """Number of workers. If not given, one for each GPU, or on the CPU one for each
    `renderer.threads` cores, also of nodes that join while the job runs."""
    workers_per_gpu: int = Field(default=1, ge=1, le=64)
    """More than one lets small models share a GPU; give `renderer.batch_size` a number with it,
    because `auto` counts on the whole memory."""
    batch_deadline_s: float | None = Field(default=None, gt=0)
    """Seconds after which a batch is taken for one that hangs, and its worker is replaced. If not
    given, 20 times the longest of that worker, at least 5 minutes; an hour for the first. The first
    has ten times what is given, because it loads the model."""
    ray_address: str = "local"
    """`local` starts a cluster on this machine that ends with the job; `auto` and HOST:PORT join
    a running one."""


class RayExecutor:
    """Executor `ray`. The laws are in `pipeline.execution`."""

    Config = RayConfig

    def __init__(self, config: RayConfig) -> None:
        if find_spec("ray") is None:
            raise PluginError("executor ray needs ray: pip install 'synth-rep[pipeline]'")
        self._workers = config.workers
        self._per_gpu = config.workers_per_gpu
        self._address = config.ray_address
        self._batch_deadline_s = config.batch_deadline_s

    def run(
        self, shards: Sequence[int], job: Job
    ) -> Iterator[ShardReport | ShardFailure | Underway]:
        """Make the shards on the cluster; a local one lives as long as the job."""
        import ray

        from pipeline.execution.ray_executor.driver import Driver

        self._connect()
        try:
            count = partial(self._num_workers, job, len(shards))
            driver = Driver(count, job, self._per_gpu, self._batch_deadline_s)
            yield from driver.run(WorkQueue(shards))
        finally:
            ray.shutdown()

    def _connect(self) -> None:
        import ray
        from ray.exceptions import RayError

        quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
        handlers = {kind: signal.getsignal(kind) for kind in KINDS}
        try:
            if self._address == "local":
                ray.init(
                    address="local",
                    include_dashboard=False,
                    object_store_memory=OBJECT_STORE_BYTES,
                    _node_ip_address=LOOPBACK,
                    **quiet,
                )
            else:
                ray.init(address=self._address, **quiet)
        except (RayError, ConnectionError, ValueError, RuntimeError, OSError) as exc:
            reason = (str(exc).strip().splitlines() or [type(exc).__name__])[0]
            raise ExecutorError(
                f"ray at {self._address}: cannot connect ({reason}); start a cluster with "
                "`ray start --head` and share its token, or give --ray-address local"
            ) from exc
        finally:
            # Ray sets handlers of its own, which end the process in the middle of anything.
            if threading.current_thread() is threading.main_thread():
                for kind, handler in handlers.items():
                    signal.signal(kind, handler)

    def _num_workers(self, job: Job, num_shards: int) -> int:
        import ray

        resource = "GPU" if job.resources.device_type == "cuda" else "CPU"
        # Node by node, because a worker runs on one of them.
        units = [int(node["Resources"].get(resource, 0)) for node in ray.nodes() if node["Alive"]]
        needed = job.resources.threads if resource == "CPU" else job.resources.gpus
        available = sum(count // needed for count in units)
        if resource == "GPU" and self._per_gpu > 1:
            if needed > 1:
                raise ConfigError(
                    f"execution.workers_per_gpu {self._per_gpu}: a worker of this set has {needed} "
                    "GPUs of its own; leave it out"
                )
            available = sum(units) * self._per_gpu
        # A number that the user gives is taken as it is: nodes may join later.
        if self._workers is None and not available:
            raise ExecutorError(
                f"ray at {self._address}: a worker needs {needed} {resource}, and the largest node "
                f"has {max(units, default=0)}; add nodes or give --workers"
            )
        return max(1, min(self._workers or available, num_shards))
