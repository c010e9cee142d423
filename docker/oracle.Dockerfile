# The oracle: protocol and server, no trainers, no client.
#
#   docker build -f docker/oracle.Dockerfile -t hyperoracle-oracle .
#
# torch from the default index brings CUDA libraries that the oracle does not use; for a small
# image give pip's option for PyTorch's CPU wheels, e.g. --build-arg TORCH_OPTIONS="--index-url ...".
#
# It runs as user 10001 and writes to /data alone: give it --read-only, and --tmpfs /tmp.

FROM python:3.11-slim AS build
# hnswlib ships no wheels: it is compiled here, for any processor of the platform.
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
ENV HNSWLIB_NO_NATIVE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/oracle
WORKDIR /src
COPY constraints.txt .
ARG TORCH_OPTIONS=""
RUN /opt/oracle/bin/pip install -c constraints.txt ${TORCH_OPTIONS} torch==2.13.0
COPY protocol protocol
COPY server server
# With what traces take: nobody can install it into a running container.
RUN /opt/oracle/bin/pip install -c constraints.txt ./protocol "./server[otel]"

FROM python:3.11-slim
RUN useradd --create-home --uid 10001 oracle && install -d -o oracle /data
COPY --from=build /opt/oracle /opt/oracle
USER 10001
ENV HYPERORACLE_STORE=/data/oracle.db HYPERORACLE_HOST=0.0.0.0 HYPERORACLE_PORT=8080 \
    OMP_NUM_THREADS=1 PYTHONUNBUFFERED=1
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["/opt/oracle/bin/python", "-m", "hyperoracle_server.commands.probe"]
ENTRYPOINT ["/opt/oracle/bin/python", "-m", "hyperoracle_server"]
