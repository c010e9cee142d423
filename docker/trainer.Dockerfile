# A training job: protocol, client and trainers, no server.
#
#   docker build -f docker/trainer.Dockerfile -t hyperoracle-trainer .
#
# It runs as user 10001 and writes to /runs and /tmp alone: give it --read-only, and --tmpfs /tmp.

FROM python:3.11-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/trainer
WORKDIR /src
COPY constraints.txt .
ARG TORCH_OPTIONS=""
RUN /opt/trainer/bin/pip install -c constraints.txt ${TORCH_OPTIONS} torch==2.13.0
COPY protocol protocol
COPY client client
COPY trainers trainers
RUN /opt/trainer/bin/pip install -c constraints.txt ./protocol ./client ./trainers

FROM python:3.11-slim
RUN useradd --create-home --uid 10001 trainer && install -d -o trainer /runs
COPY --from=build /opt/trainer /opt/trainer
USER 10001
WORKDIR /runs
# Reports wait under XDG_STATE_HOME while the oracle is away.
ENV PATH=/opt/trainer/bin:$PATH OMP_NUM_THREADS=1 PYTHONUNBUFFERED=1 \
    XDG_STATE_HOME=/runs/.state MPLCONFIGDIR=/tmp/matplotlib
VOLUME /runs
ENTRYPOINT ["hyperoracle"]
CMD ["train", "--help"]
