# Two images from one file: `serving` (the default: no torch, no pandas) and `training`.
#
#   docker build -t esci .
#   docker build -t esci-training --target training .

ARG PYTHON=python:3.11.13-slim-bookworm

# What both are built from: a virtual environment is copied whole, so pip and its leftovers stay.
FROM ${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python -m venv /opt/esci
COPY pyproject.toml constraints.txt README.md LICENSE esci.py ./
COPY models/ models/
COPY pipelines/ pipelines/
COPY service/ service/

FROM build AS build-serving
RUN /opt/esci/bin/pip install --constraint constraints.txt '.[serving]'

FROM build AS build-training
RUN /opt/esci/bin/pip install --constraint constraints.txt '.[training]'

# One user and one home in both images, so that one volume suits the two.
FROM ${PYTHON} AS base
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/esci esci
ENV PATH=/opt/esci/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    ESCI_HOME=/var/lib/esci
USER 10001
WORKDIR /var/lib/esci
VOLUME /var/lib/esci

# Runs once and ends: `docker run esci-training train --help`.
FROM base AS training
COPY --from=build-training /opt/esci /opt/esci
ENTRYPOINT ["esci"]
CMD ["run", "--once"]

# Last, and so the default.
FROM base AS serving
COPY --from=build-serving /opt/esci /opt/esci
# A container is reached through an address of its own, so loopback would serve nobody. Binding to
# it asks for ESCI_ALLOW_REMOTE=1, which is not set here: there are no API keys, so only whoever
# publishes the port can say that the network in front of it lets in only those who may ask.
ENV ESCI_HOST=0.0.0.0 \
    ESCI_PORT=8000
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"ESCI_PORT\"]}/readyz', timeout=2)"]
# The exec form: the service itself gets the signal to stop, and answers what it has begun.
ENTRYPOINT ["esci"]
CMD ["serve"]
