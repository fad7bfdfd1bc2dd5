# `trlm serve` on a CPU, with its model and the demo's index inside; runs as a user of its own.
#
#   docker build -t trlm .
#   docker run -p 8000:8000 -e TRLM_API_KEY=secret trlm
#   docker run -p 8000:8000 -e TRLM_API_KEY=secret -v ./my-index:/index:ro trlm serve --host 0.0.0.0
#
# WHEELS names the package index of torch's CPU wheels; without it pip brings those for CUDA.
FROM python:3.12-slim
ARG WHEELS=""

RUN useradd --create-home --uid 1000 trlm
WORKDIR /app
COPY . .
RUN python -m pip install --no-cache-dir --constraint constraints.txt \
        ${WHEELS:+--extra-index-url "$WHEELS"} ".[serve]" \
    && mkdir /index /cache && chown trlm /index /cache

USER 1000
ENV TRLM_CACHE=/cache TRLM_INDEX=/index HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1
RUN trlm models pull minilm && trlm index --demo --states --model trlm-small

EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz')"]
ENTRYPOINT ["trlm"]
CMD ["serve", "--host", "0.0.0.0"]
