# One image for servers, workers and `runwire migrate`. An agent of your own goes on top:
#
#   FROM runwire
#   COPY config.yaml agents.py /app/

FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_CONSTRAINT=/src/constraints.txt
WORKDIR /src
RUN python -m venv /opt/runwire
ENV PATH=/opt/runwire/bin:$PATH
# What it needs changes less often than what it is: this layer is made anew only with one of these files.
COPY pyproject.toml constraints.txt ./
RUN python -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
    print(*project["dependencies"], *sum(project["optional-dependencies"].values(), []), sep="\n")' > needs.txt \
    && pip install -r needs.txt
COPY README.md LICENSE config.yaml ./
COPY docs docs
COPY proxy proxy
COPY adapters adapters
RUN pip install --no-deps .

FROM python:3.11-slim
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin runwire \
    && install --directory --owner=runwire --group=runwire /app
# It comes uncompiled, and this user could not keep what Python compiles: each start and health check would do it anew.
RUN python -m compileall -q -x site-packages "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
COPY --from=build /opt/runwire /opt/runwire
ENV PATH=/opt/runwire/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
WORKDIR /app
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --start-interval=1s CMD ["runwire", "health"]
ENTRYPOINT ["runwire"]
CMD ["serve", "--host", "0.0.0.0"]
