# The command line and the client library alone: protocol and client, neither torch nor server.
#
#   docker build -f docker/client.Dockerfile -t hyperoracle-client .
#
# It runs as user 10001 and writes nothing: give it --read-only.

FROM python:3.11-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/client
WORKDIR /src
COPY constraints.txt .
COPY protocol protocol
COPY client client
RUN /opt/client/bin/pip install -c constraints.txt ./protocol ./client

FROM python:3.11-slim
RUN useradd --create-home --uid 10001 client
COPY --from=build /opt/client /opt/client
USER 10001
ENV PATH=/opt/client/bin:$PATH PYTHONUNBUFFERED=1
ENTRYPOINT ["hyperoracle"]
CMD ["--help"]
