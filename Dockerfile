# The page and the API with the embedded models inside; needs no network when it runs.
#
#   docker build -t lexiseg . && docker compose up
#
# Works with a read-only root and without capabilities: see compose.yaml. Written where no Docker daemon runs, so it has
# not been built there; docs/serving.md says so too.
FROM python:3.11-slim AS build
WORKDIR /src
RUN python -m venv /venv
# a CPU build of torch is a tenth of the size: --build-arg TORCH="--index-url ADDRESS-OF-CPU-BUILDS"
ARG TORCH=""
RUN /venv/bin/pip install --no-cache-dir ${TORCH} "torch>=2.10,<2.14"
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN /venv/bin/pip install --no-cache-dir ".[fast,serve]" && /venv/bin/pip check

FROM python:3.11-slim
COPY --from=build /venv /venv
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin lexiseg
ENV PATH=/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    HF_HUB_OFFLINE=1 LEXISEG_CACHE=/tmp/lexiseg NUMBA_CACHE_DIR=/tmp/numba OMP_WAIT_POLICY=passive
USER 10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=3s --start-period=90s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/ready', timeout=2)"]
ENTRYPOINT ["lexiseg", "serve"]
CMD ["--host", "0.0.0.0", "--token-file", "/run/secrets/lexiseg_token"]
