# The image of Penstock: docs/container.md.
#
#   docker build -t penstock .
#
# To pin the base, name its digest too, which `docker buildx imagetools inspect python:3.14-slim` shows:
#   docker build --build-arg BASE=python:3.14-slim@sha256:... -t penstock .
# Any base with Python 3.11 or newer and its venv module will do.
ARG BASE=python:3.14-slim

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY constraints-build.txt constraints-image.txt ./
# Two environments: the tools that build the wheel stay in this stage.
RUN python3 -m venv tools \
    && tools/bin/python -m pip install --no-deps --require-hashes -r constraints-build.txt \
    && python3 -m venv /opt/penstock \
    && /opt/penstock/bin/python -m pip install --no-deps --only-binary :all: --require-hashes -r constraints-image.txt
COPY pyproject.toml README.md LICENSE ./
COPY config/profiles/*.toml config/profiles/
COPY config/profiles/tours config/profiles/tours
COPY middlewares middlewares
COPY edge edge
RUN tools/bin/python -m pip wheel --no-deps --no-build-isolation --no-index --wheel-dir dist . \
    && /opt/penstock/bin/python -m pip install --no-deps --no-index --find-links dist penstock \
    && tools/bin/python -m pip --python /opt/penstock/bin/python uninstall --yes pip setuptools

FROM ${BASE}
LABEL org.opencontainers.image.title="penstock" \
      org.opencontainers.image.description="The LLM API edge: OpenAI and Anthropic clients through one base URL" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0"
# Removed: the pip of the base, the copy of it that the venv module installs, and all setuid bits.
# A new volume takes over owner and mode of the folder that it is mounted on.
RUN find /usr -xdev '(' -name pip -o -name 'pip-*' -o -name 'pip[0-9]*' -o -name ensurepip ')' -exec rm -rf '{}' + \
    && find / -xdev -type f -perm /6000 -exec chmod a-s '{}' + \
    && install -d /etc/penstock \
    && install -d -o 65532 -g 65532 -m 0700 /var/lib/penstock
COPY --from=build /opt/penstock /opt/penstock
ENV PATH=/opt/penstock/bin:$PATH \
    PENSTOCK_CONFIG=/etc/penstock/penstock.toml \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /var/lib/penstock
USER 65532:65532
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["penstock"]
CMD ["serve"]
