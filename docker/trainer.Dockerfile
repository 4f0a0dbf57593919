# Ranks of `synth train` and `synth evaluate`; neither Ray nor diffusers is in it.
#   docker build -f docker/trainer.Dockerfile -t synth-trainer .
# Run it with shared memory for the loader workers: --shm-size 8g. For machines without GPUs:
#   --build-arg TORCH_INDEX=ADDRESS, an index that has CPU builds of torch.
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
ARG EXTRAS="trainer,s3,gcs,azure,sftp"
RUN /venv/bin/uv pip install --python /venv/bin/python --no-cache \
        ${TORCH_INDEX:+--index "${TORCH_INDEX}"} --constraint requirements.lock ".[${EXTRAS}]" \
    && /venv/bin/uv pip uninstall --python /venv/bin/python uv

FROM ${BASE}
RUN useradd --uid 1000 --create-home synth \
    && install -d -o synth -g synth /home/synth/runs \
    && ln -s /venv/bin/synth /venv/bin/torchrun /usr/local/bin/
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1
USER 1000
WORKDIR /home/synth
ENTRYPOINT ["synth"]
CMD ["--help"]
