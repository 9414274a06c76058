# The image of the sidecar: an interpreter, the packages and the libraries that they load, nothing else: no shell, no package
# manager. Built by `make image`. It runs as user 65532 with a read-only root; it writes to /var/lib/sidecar and /run/sidecar.
ARG BASE=docker.io/library/python:3.11-slim

FROM ${BASE} AS build
WORKDIR /build
# The system's certificates, so that who builds behind a proxy can mount his own over them.
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    UV_SYSTEM_CERTS=1
COPY requirements/build.txt requirements/run.txt requirements/
# hadolint ignore=DL3013,DL3042
RUN python3 -m venv tools \
 && tools/bin/python -m pip install -q --no-cache-dir --require-hashes -r requirements/build.txt \
 && tools/bin/uv venv -q --python python3 /opt/sidecar \
 && tools/bin/uv pip install -q --python /opt/sidecar/bin/python --link-mode copy --no-cache --only-binary :all: \
      --require-hashes -r requirements/run.txt
COPY pyproject.toml README.md LICENSE ./
COPY sidecar sidecar
COPY clients/python clients/python
RUN tools/bin/uv build -q --wheel --no-build-isolation --python tools/bin/python -o wheels . \
 && tools/bin/uv build -q --wheel --no-build-isolation --python tools/bin/python -o wheels clients/python \
 && tools/bin/uv pip install -q --python /opt/sidecar/bin/python --no-cache --no-deps wheels/*.whl
COPY deploy/image/root.py .
RUN python3 root.py /opt/sidecar /root-of-image

FROM scratch
ARG VERSION=0.2.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="sidecar" \
      org.opencontainers.image.description="A p2p mesh as a process beside your app: libp2p on the wire, gRPC to the app" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.source="https://github.com/p2p-sidecar/sidecar"
COPY --from=build /root-of-image/ /
# The configuration is /etc/sidecar/config.toml where there is one; each key can be set by a variable as well.
ENV PATH=/opt/sidecar/bin \
    HOME=/var/lib/sidecar \
    XDG_CONFIG_HOME=/etc \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    SIDECAR_STATE_DIRECTORY=/var/lib/sidecar \
    SIDECAR_API_SOCKET=/run/sidecar/api.sock
USER 65532:65532
WORKDIR /var/lib/sidecar
VOLUME ["/var/lib/sidecar", "/run/sidecar"]
EXPOSE 4747
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 CMD ["sidecar", "health"]
ENTRYPOINT ["sidecar"]
CMD ["run"]
