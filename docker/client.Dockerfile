# The command line and the client library alone: protocol and client, neither torch nor server.
#
#   docker build -f docker/client.Dockerfile -t hyperoracle-client .

FROM python:3.11-slim
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY constraints.txt .
COPY protocol protocol
COPY client client
RUN pip install -c constraints.txt ./protocol ./client \
    && rm -rf /src && useradd --create-home --uid 10001 client
USER client
ENTRYPOINT ["hyperoracle"]
CMD ["--help"]
