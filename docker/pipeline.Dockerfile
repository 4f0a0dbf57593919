# Workers and driver of `synth generate`. From the root of a checkout:
#   docker build -f docker/pipeline.Dockerfile -t synth-pipeline .
# torch brings its own CUDA libraries, so GPUs need nothing but the driver and the NVIDIA container
# toolkit of the host. For machines without GPUs, with 4 GB less, give an index that has CPU builds:
#   --build-arg TORCH_INDEX=ADDRESS
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS build
RUN python -m venv /venv && /venv/bin/python -m pip install --no-cache-dir "uv>=0.9,<1"
WORKDIR /src
COPY requirements.lock pyproject.toml README.md LICENSE synth.py ./
COPY manifests manifests
COPY prompts prompts
COPY pipeline pipeline
COPY trainer trainer
ARG TORCH_INDEX=""
ARG EXTRAS="pipeline,cluster,shaders,s3,gcs,azure,sftp"
RUN /venv/bin/uv pip install --python /venv/bin/python --no-cache \
        ${TORCH_INDEX:+--index "${TORCH_INDEX}"} --constraint requirements.lock ".[${EXTRAS}]" \
    && /venv/bin/uv pip uninstall --python /venv/bin/python uv

FROM ${BASE}
# Shaders are drawn by Mesa where there is no GPU for them.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libegl1 libgl1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home synth \
    # A login shell, which Kubernetes operators start Ray with, forgets the PATH below.
    && ln -s /venv/bin/synth /venv/bin/ray /usr/local/bin/
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 RAY_USAGE_STATS_ENABLED=0
USER 1000
WORKDIR /home/synth
ENTRYPOINT ["synth"]
CMD ["--help"]
