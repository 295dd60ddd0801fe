# syntax=docker/dockerfile:1
# The one image of every Penstock process: `docker run penstock api`, `worker`, `simulator`, ...
# Nothing is installed, compiled or written after the build, so it runs as any user on a read-only file system.
ARG PYTHON_VERSION=3.13

FROM python:${PYTHON_VERSION}-slim AS wheel
WORKDIR /src
COPY requirements-build.lock .
RUN pip install --no-cache-dir --only-binary :all: --require-hashes -r requirements-build.lock
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY api ./api
COPY cli ./cli
COPY jobs ./jobs
COPY limiter ./limiter
COPY simulator ./simulator
COPY worker ./worker
RUN python -m hatchling build -t wheel -d /dist

FROM python:${PYTHON_VERSION}-slim AS environment
COPY requirements.lock .
# pip compiles what it installs, and stays out of the environment that the image keeps.
RUN python -m venv --without-pip /opt/penstock \
    && pip --python /opt/penstock/bin/python install --no-cache-dir --only-binary :all: --require-hashes \
        -r requirements.lock
COPY --from=wheel /dist /dist
RUN pip --python /opt/penstock/bin/python install --no-cache-dir --no-index --no-deps /dist/*.whl

FROM python:${PYTHON_VERSION}-slim
# The base image comes without the standard library's bytecode; compiling it at every start would cost a second.
RUN python -m compileall -q "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
    && useradd --system --uid 10001 --user-group --no-create-home --home-dir /nonexistent \
        --shell /usr/sbin/nologin penstock
COPY --from=environment /opt/penstock /opt/penstock
ENV PATH=/opt/penstock/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
# Where penstock.yaml is looked for unless PENSTOCK_CONFIG says otherwise.
WORKDIR /etc/penstock
EXPOSE 8080
ENTRYPOINT ["penstock"]
CMD ["--help"]
