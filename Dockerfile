# The server in a container; docs/operations.md says how to run it.
#
#   docker build --tag menura .

ARG BASE=python:3.11-slim

FROM ${BASE} AS build
COPY . /source
RUN python3 -m venv /opt/menura \
    && /opt/menura/bin/pip install --no-cache-dir --disable-pip-version-check '/source[postgresql]'

FROM ${BASE}
RUN useradd --system --uid 10001 --home-dir /data menura && install -d -m 0700 -o menura /data
COPY --from=build /opt/menura /opt/menura
COPY --from=build /source/examples /examples
# Inside a container loopback is the container's own; what may reach it is for --publish to say.
ENV PATH=/opt/menura/bin:$PATH MENURA_DATA=/data MENURA_HOST=0.0.0.0 MENURA_PORT=8000
USER menura
WORKDIR /
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD python -c "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['MENURA_PORT'] + '/health')"
CMD ["menura", "serve"]
