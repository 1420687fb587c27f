ARG PYTHON_VERSION=3.13

FROM python:${PYTHON_VERSION}-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements/ requirements/
RUN pip install --require-hashes -r requirements/build.txt \
    && python -m venv /opt/sessiond \
    && /opt/sessiond/bin/pip install --require-hashes --only-binary :all: -r requirements/runtime.txt
COPY . .
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels ./clients/python . \
    && /opt/sessiond/bin/pip install --no-deps --no-index /wheels/*.whl \
    && /opt/sessiond/bin/pip check

FROM python:${PYTHON_VERSION}-slim
# The Postgres that is brought along wants its user to have an entry in passwd.
RUN groupadd --gid 10001 sessiond \
    && useradd --uid 10001 --gid 10001 --no-log-init --shell /usr/sbin/nologin \
        --home-dir /var/lib/sessiond --no-create-home sessiond \
    && install --directory --owner=sessiond --group=sessiond --mode=700 /var/lib/sessiond
COPY --from=build /opt/sessiond /opt/sessiond
ENV PATH=/opt/sessiond/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SESSIOND_DATA_DIR=/var/lib/sessiond \
    SESSIOND_LISTEN=0.0.0.0:7443
USER sessiond
WORKDIR /var/lib/sessiond
VOLUME /var/lib/sessiond
EXPOSE 7443
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["sessiond", "healthcheck"]
ENTRYPOINT ["sessiond"]
CMD ["serve"]
